// What a scheduler is given once, and what it tells about itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace aruntime {

inline constexpr std::uint32_t kFrontEndsMax = 64;
// Answers to refused submits that one front end may leave untaken; as many as its output ring has records.
inline constexpr std::uint32_t kRefusalsMax = 16384;

struct Limits {
  std::int32_t sequences_max = 0;    // in one step
  std::int32_t step_tokens_max = 0;  // in one step; at least sequences_max, so that every decode has its place
  std::int32_t waiting_max = 0;      // no submit is accepted while so many wait
  std::int32_t context_max = 0;      // tokens of a sequence, prompt and output
  std::int32_t block_tokens = 16;
  std::int32_t blocks = 0;
  std::int32_t vocab = 0;

  // A sequence never outgrows the whole pool: alone in it, it always gets on.
  std::int32_t tokens_max() const noexcept {
    return static_cast<std::int32_t>(std::min<std::int64_t>(context_max, std::int64_t{blocks} * block_tokens));
  }
  std::int32_t blocks_for(std::int32_t tokens) const noexcept { return (tokens + block_tokens - 1) / block_tokens; }

  // Throws std::invalid_argument, which names the limit that is wrong.
  void check() const {
    require(sequences_max > 0, "sequences_max", sequences_max);
    require(step_tokens_max >= sequences_max, "step_tokens_max (at least sequences_max)", step_tokens_max);
    require(waiting_max > 0, "waiting_max", waiting_max);
    require(context_max > 1 && context_max <= kTokens, "context_max", context_max);
    require(block_tokens > 0 && block_tokens <= kTokens, "block_tokens", block_tokens);
    require(blocks > 0 && std::int64_t{blocks} * block_tokens <= INT32_MAX, "blocks (slots are int32)", blocks);
    require(vocab > 0, "vocab", vocab);
  }

 private:
  static constexpr std::int32_t kTokens = 1 << 24;  // precedent: the longest contexts offered are 10 Mi tokens

  static void require(bool holds, const char* name, std::int32_t value) {
    if (!holds) throw std::invalid_argument(std::string(name) + " cannot be " + std::to_string(value));
  }
};

// Counted since the start, but for the first six, which are now.
struct Stats {
  std::int64_t waiting = 0;
  std::int64_t waiting_tokens = 0;  // to be prefilled for those that wait
  std::int64_t running = 0;
  std::int64_t undelivered = 0;  // ends, of sequences and of refused submits, that no front end has taken yet
  std::int64_t blocks_free = 0;
  std::int64_t blocks_total = 0;
  std::int64_t preemptions = 0;
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;  // of prompts prefilled whole, each counted once
  std::int64_t output_tokens = 0;
};

}  // namespace aruntime
