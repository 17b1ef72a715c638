// What a scheduler is given once, and what it tells about itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
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
  // Between two tokens of a sequence: while any decodes, a step takes no more of the prompts than this allows.
  double itl_s = std::numeric_limits<double>::infinity();
  // A prompt is computed whole in one step, or waits for the next: for models that answer with one token.
  bool whole_prompts = false;
  std::uint64_t prefix_secret = 0;  // of this process: nobody outside can tell which prefixes fall together

  // In the steps, and waiting for them.
  std::size_t here_max() const noexcept {
    return static_cast<std::size_t>(waiting_max) + static_cast<std::size_t>(sequences_max);
  }
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
    require(!whole_prompts || step_tokens_max >= tokens_max() - 1, "step_tokens_max (of whole prompts)", step_tokens_max);
    require(itl_s > 0.0, "itl_s (above 0)", itl_s);
  }

 private:
  static constexpr std::int32_t kTokens = 1 << 24;  // precedent: the longest contexts offered are 10 Mi tokens

  template <typename Number>
  static void require(bool holds, const char* name, Number value) {
    if (!holds) throw std::invalid_argument(std::string(name) + " cannot be " + std::to_string(value));
  }
};

// Counted since the start, but for the first ones, which are now.
struct Stats {
  std::int64_t waiting = 0;
  std::int64_t waiting_tokens = 0;  // to be prefilled for those that wait
  std::int64_t running = 0;
  std::int64_t paused = 0;
  std::int64_t tokens_left = 0;  // that all of these may still generate, at most
  std::int64_t undelivered = 0;  // ends, of sequences and of refused submits, that no front end has taken yet
  std::int64_t blocks_free = 0;
  std::int64_t blocks_cached = 0;  // of the free ones: they hold a prefix that may be used again
  std::int64_t blocks_reserved = 0;
  std::int64_t blocks_total = 0;
  double waiting_weight = 0.0;       // of the tenants that have something to prefill
  double oldest_s = 0.0;             // arrival of the sequence that has waited longest; 0 while nobody waits
  double step_s = 0.0;               // how long the next step takes; 0 while the pace is not known
  double prefill_tokens_per_s = 0.0; // beside the sequences that decode now; 0 while the pace is not known
  double take_up_s = 0.0;            // between two sequences taken up while every place is taken; 0 while one is free
  double drain_s = 0.0;              // until all that is here has ended
  // Since the start.
  std::int64_t preemptions = 0;
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;  // of prompts prefilled whole, each counted once
  std::int64_t cached_tokens = 0;  // of these: not computed, since their blocks were there
  std::int64_t output_tokens = 0;
};

}  // namespace aruntime
