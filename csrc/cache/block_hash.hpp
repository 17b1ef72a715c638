// The hash of a sequence's blocks, each over all tokens up to its end: the key under which a prefix is found again.
//
// Source: multiply and fold as in wyhash and xxh3, one random key a word as in NH (Black et al., UMAC, 1999). A block's
// products depend on nothing but its tokens and overlap; one multiplication a block waits for the block before.
// The secret is drawn anew by every process, so that no client can aim at a collision. It need be no stronger: a hit is
// compared token by token, so a collision costs time and never an answer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace aruntime {

class BlockHash {
 public:
  BlockHash(std::int32_t block_tokens, std::uint64_t secret)
      : quads_(static_cast<std::size_t>(block_tokens) / 4), rest_(static_cast<std::size_t>(block_tokens) % 4) {
    keys_.resize(2 * quads_ + 4);
    for (std::uint64_t& key : keys_) key = split_mix(secret);
  }

  // Before the first block.
  std::uint64_t start(std::uint64_t root) const noexcept { return fold(root ^ keys_[0], keys_[1]); }

  // After the block of `tokens`, of which all before it have the hash `before`.
  std::uint64_t next(std::uint64_t before, const std::int32_t* tokens) const noexcept {
    const std::uint64_t* key = &keys_[2];
    std::uint64_t sum = 0;
    for (std::size_t quad = 0; quad < quads_; ++quad, tokens += 4, key += 2) sum += product(tokens, key);
    if (rest_ > 0) {
      std::int32_t last[4] = {};
      std::copy_n(tokens, rest_, last);
      sum += product(last, key);
    }
    return fold(before ^ keys_[0], sum ^ keys_[1]);
  }

 private:
  static std::uint64_t fold(std::uint64_t one, std::uint64_t other) noexcept {
    const auto whole = static_cast<unsigned __int128>(one) * other;
    return static_cast<std::uint64_t>(whole) ^ static_cast<std::uint64_t>(whole >> 64);
  }

  static std::uint64_t product(const std::int32_t* quad, const std::uint64_t* key) noexcept {
    std::uint64_t words[2];
    std::memcpy(words, quad, sizeof words);
    return fold(words[0] ^ key[0], words[1] ^ key[1]);
  }

  // Source: SplitMix64 (Steele, Lea, Flood 2014).
  static std::uint64_t split_mix(std::uint64_t& state) noexcept {
    std::uint64_t word = state += 0x9E3779B97F4A7C15ull;
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9ull;
    word = (word ^ word >> 27) * 0x94D049BB133111EBull;
    return word ^ word >> 31;
  }

  std::size_t quads_, rest_;  // tokens of a block, by four
  std::vector<std::uint64_t> keys_;
};

}  // namespace aruntime
