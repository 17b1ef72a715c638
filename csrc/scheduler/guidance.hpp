// What a sequence shall say more readily, less readily or not at all: its biases and its bad words.
//
// Both come in a submit's payload, as `Steering` in records.hpp says: shared memory, so nothing of it is believed. A bad
// word of one token is never given; of a longer one its last token is not, while what was said ends with the others.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "queue/records.hpp"

namespace aruntime {

// Whether all `count` ids name a token of the vocabulary. No early exit, so that it runs in vectors.
inline bool are_tokens(const std::int32_t* ids, std::uint32_t count, std::int32_t vocab) noexcept {
  std::uint32_t wrong = 0;
  for (std::uint32_t i = 0; i < count; ++i) wrong |= static_cast<std::uint32_t>(ids[i]) >= static_cast<std::uint32_t>(vocab);
  return wrong == 0;
}

inline std::uint32_t payload_bytes_of(const Steering& steering) noexcept {
  return 8u * steering.bias_pairs + 4u * (steering.bad_words + steering.bad_word_tokens) + steering.grammar_bytes;
}

class Guidance {
 public:
  std::vector<std::int32_t> bias_token;  // each once
  std::vector<float> bias;
  std::vector<std::int32_t> banned;      // bad words of one token

  // Takes in what a payload of `payload_bytes_of(steering)` says. Returns false when it cannot be.
  bool read(const Steering& steering, const std::byte* payload, std::int32_t vocab) {
    for (std::uint32_t i = 0; i < steering.bias_pairs; ++i, payload += 8) {
      float value;
      std::memcpy(&value, payload + 4, sizeof value);
      if (!std::isfinite(value)) return false;
      bias_token.push_back(number(payload));
      bias.push_back(value);
    }
    words_.resize(std::size_t{steering.bad_words} + steering.bad_word_tokens);
    if (!words_.empty()) std::memcpy(words_.data(), payload, 4 * words_.size());
    return are_tokens(bias_token.data(), steering.bias_pairs, vocab) && all_once() && split(steering, vocab);
  }

  // Whether what has been said decides what may be said next.
  bool looks_back() const noexcept { return !words_.empty(); }

  // Calls ban(token) for each token that would end a bad word after the output `said`.
  template <typename Ban>
  void each_ban(const std::int32_t* said, std::size_t count, Ban ban) const {
    for (const std::int32_t token : banned) ban(token);
    for (std::size_t at = 0; at < words_.size(); at += 1 + static_cast<std::size_t>(words_[at])) {
      const auto before = static_cast<std::size_t>(words_[at]) - 1;
      const std::int32_t* word = &words_[at + 1];
      if (before <= count && std::equal(word, word + before, said + count - before)) ban(word[before]);
    }
  }

 private:
  static std::int32_t number(const std::byte* bytes) noexcept {
    std::int32_t value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  bool all_once() const {
    std::vector<std::int32_t> sorted = bias_token;
    std::sort(sorted.begin(), sorted.end());
    return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  }

  // Takes words of one token out of `words_` and leaves the longer ones, each behind its length.
  bool split(const Steering& steering, std::int32_t vocab) {
    const std::size_t end = words_.size();
    std::size_t at = 0, kept = 0;
    for (std::uint32_t word = 0; word < steering.bad_words; ++word) {
      if (at == end) return false;
      const std::int32_t length = words_[at];
      if (length < 1 || static_cast<std::size_t>(length) > end - at - 1) return false;
      const auto cells = 1 + static_cast<std::size_t>(length);
      if (!are_tokens(&words_[at + 1], static_cast<std::uint32_t>(length), vocab)) return false;
      if (length == 1) {
        banned.push_back(words_[at + 1]);
      } else {
        std::copy_n(&words_[at], cells, &words_[kept]);
        kept += cells;
      }
      at += cells;
    }
    words_.resize(kept);
    return at == end;
  }

  std::vector<std::int32_t> words_;  // of more than one token: their length, then they
};

}  // namespace aruntime
