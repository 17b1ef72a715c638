// Vectors of kLanes floats in the vector extensions of GCC and Clang: one source for AVX2, AVX-512 and everything else.
//
// Included once by each instruction set's own .cpp, inside its own namespace; every function is local to that file, so
// the linker can never put AVX-512 code where an older processor would run it. Products that are added are fused.
#pragma once

#include <cstdint>

#ifndef ARUNTIME_LANES
#error "include one of the instruction sets' sources"
#endif

namespace aruntime::cpu {
namespace {

constexpr int kLanes = ARUNTIME_LANES;
constexpr int kReduce = 16;  // partial sums of a reduction over lanes, whatever kLanes is: the same bits everywhere
static_assert(kReduce % kLanes == 0);

using Vec = float __attribute__((vector_size(kLanes * 4)));
using Ints = std::int32_t __attribute__((vector_size(kLanes * 4)));
using Words = std::uint32_t __attribute__((vector_size(kLanes * 4)));
using Halves = std::uint16_t __attribute__((vector_size(kLanes * 2)));

struct Bf16 {
  std::uint16_t bits;
};

inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t most(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <class Vector>
inline Vector load_as(const void* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

inline Vec broadcast(float value) { return value - Vec{}; }
inline Vec load(const float* from) { return load_as<Vec>(from); }
inline Vec load(const Bf16* from) { return (Vec)(__builtin_convertvector(load_as<Halves>(from), Words) << 16); }
inline void store(float* to, Vec value) { __builtin_memcpy(to, &value, sizeof value); }

// Round to nearest even, as torch does; a NaN stays one.
inline void store(Bf16* to, Vec value) {
  const Words bits = (Words)value;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Halves halves = __builtin_convertvector(value == value ? rounded : Words{} + 0x7fc0, Halves);
  __builtin_memcpy(to, &halves, sizeof halves);
}

// The first `count` < kLanes elements; the other lanes read `other` and are not written.
template <class Stored>
inline Vec load_some(const Stored* from, std::int64_t count, Stored other = {}) {
  Stored lanes[kLanes];
  for (std::int64_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? from[i] : other;
  return load(lanes);
}
template <class Stored>
inline void store_some(Stored* to, Vec value, std::int64_t count) {
  Stored lanes[kLanes];
  store(lanes, value);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Calls body(offset, load, store) over [0, count): whole vectors, then the rest with the partial forms.
template <class Body>
inline void for_lanes(std::int64_t count, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    body(i, [](const auto* from) { return load(from); }, [](auto* to, Vec value) { store(to, value); });
  }
  if (const std::int64_t rest = count - i; rest > 0) {
    body(i, [rest](const auto* from) { return load_some(from, rest); },
         [rest](auto* to, Vec value) { store_some(to, value, rest); });
  }
}

inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline float larger(float a, float b) { return a > b ? a : b; }

inline Ints lane_numbers() {
  Ints lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// Folds lanes in halves, 8, 4, 2, 1: lane i with lane i + half.
template <class Fold>
inline float fold(Vec all, Fold combine) {
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Vec other;
    for (int lane = 0; lane < kLanes; ++lane) other[lane] = all[lane ^ half];
    all = combine(all, other);
  }
  return all[0];
}

// The same for kReduce partial results, whatever kLanes is.
template <class Fold>
inline float fold(const Vec* partial, Fold combine) {
  static_assert(kLanes == 16 || kLanes == 8 || kLanes == 4);
  if constexpr (kLanes == 16) return fold(partial[0], combine);
  if constexpr (kLanes == 8) return fold(combine(partial[0], partial[1]), combine);
  return fold(combine(combine(partial[0], partial[2]), combine(partial[1], partial[3])), combine);
}

// e^x to 2 ulp for x <= 88; 0 below -87.3 (and at -inf). Cephes expf: x = n ln 2 + r, a polynomial in r,
// times 2^n. A NaN stays one.
inline Vec exp(Vec x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const Vec capped = x > 88.0f ? broadcast(88.0f) : x;
  const Vec shifted = capped * 1.44269504088896341f + kShift;
  const Vec n = shifted - kShift;
  const Vec r = n * 2.12194440e-4f + (n * -0.693359375f + capped);
  Vec p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Vec power = (Vec)(((Words)shifted << 23) + 0x3f800000u);
  return x < -87.3f ? Vec{} : p * power;
}

}  // namespace
}  // namespace aruntime::cpu
