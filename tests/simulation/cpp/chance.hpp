// All randomness of a simulation: one seed, the same numbers with every compiler and library.
//
// Source: SplitMix64 (Steele, Lea, Flood 2014). The distributions are written out, because those of <random> may differ
// from one standard library to the next, and a failure must replay from its seed anywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace aruntime::simulation {

// A hash of two numbers: the finaliser of SplitMix64.
inline std::uint64_t mix(std::uint64_t one, std::uint64_t other) noexcept {
  std::uint64_t z = one * 0x9E3779B97F4A7C15ull + other + 0x632BE59BD9B4E019ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

class Chance {
 public:
  explicit Chance(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t bits() noexcept { return mix(0, state_ += 0x9E3779B97F4A7C15ull); }
  std::uint32_t below(std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>((bits() >> 32) * std::uint64_t{bound} >> 32);
  }
  // One of `low` to `high`, both included.
  std::int32_t between(std::int32_t low, std::int32_t high) noexcept {
    return low + static_cast<std::int32_t>(below(static_cast<std::uint32_t>(high - low + 1)));
  }
  // In (0, 1].
  double unit() noexcept { return (static_cast<double>(bits() >> 11) + 1.0) * 0x1p-53; }
  bool happens(double probability) noexcept { return unit() <= probability; }
  double exponential(double mean) noexcept { return -mean * std::log(unit()); }
  double normal() noexcept {
    const double radius = std::sqrt(-2.0 * std::log(unit()));
    return radius * std::cos(2.0 * std::numbers::pi * unit());
  }
  double lognormal(double median, double sigma) noexcept { return median * std::exp(sigma * normal()); }

 private:
  std::uint64_t state_;
};

}  // namespace aruntime::simulation
