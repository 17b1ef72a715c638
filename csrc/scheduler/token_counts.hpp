// How often a sequence has said each token: what presence, frequency and repetition penalties need.
//
// Three columns, one row a distinct token in order of first appearance, so a step copies them whole. The index is open
// addressing with linear probing at a load of at most one half; everything is allocated at the start.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aruntime {

class TokenCounts {
 public:
  explicit TokenCounts(std::size_t distinct_max) : places_(std::bit_ceil(2 * distinct_max + 2), 0) {
    token_.reserve(distinct_max);
    output_count_.reserve(distinct_max);
    in_prompt_.reserve(distinct_max);
  }

  void add_prompt(std::int32_t token) { in_prompt_[place(token)] = 1; }
  void add_output(std::int32_t token) { ++output_count_[place(token)]; }

  const std::vector<std::int32_t>& token() const noexcept { return token_; }
  const std::vector<std::int32_t>& output_count() const noexcept { return output_count_; }
  const std::vector<std::int32_t>& in_prompt() const noexcept { return in_prompt_; }

 private:
  std::size_t place(std::int32_t token) {
    const std::size_t mask = places_.size() - 1;
    // Fibonacci hashing (Knuth, TAOCP 6.4): neighbouring ids are common and must not cluster.
    std::size_t at = (static_cast<std::uint64_t>(token) * 0x9E3779B97F4A7C15ull >> 32) & mask;
    for (; places_[at] != 0; at = (at + 1) & mask) {
      if (token_[places_[at] - 1] == token) return places_[at] - 1;
    }
    token_.push_back(token);
    output_count_.push_back(0);
    in_prompt_.push_back(0);
    places_[at] = static_cast<std::uint32_t>(token_.size());
    return token_.size() - 1;
  }

  std::vector<std::uint32_t> places_;  // row + 1; 0 is free
  std::vector<std::int32_t> token_, output_count_, in_prompt_;
};

}  // namespace aruntime
