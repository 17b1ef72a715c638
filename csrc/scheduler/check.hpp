// Whether a submit can be served at all. It was read from shared memory: every number is looked at before it is used.
#pragma once

#include <cmath>
#include <cstdint>

#include "queue/records.hpp"
#include "scheduler/guidance.hpp"
#include "scheduler/limits.hpp"

namespace aruntime {

// Comparisons are written so that a NaN fails them. Ranges: OpenAI's where it has one, else what the number means.
inline bool is_valid(const SamplingParams& sampling) noexcept {
  return sampling.temperature >= 0.0f && std::isfinite(sampling.temperature) &&
         sampling.top_p > 0.0f && sampling.top_p <= 1.0f &&
         sampling.min_p >= 0.0f && sampling.min_p <= 1.0f &&
         std::fabs(sampling.presence_penalty) <= 2.0f &&
         std::fabs(sampling.frequency_penalty) <= 2.0f &&
         sampling.repetition_penalty > 0.0f && std::isfinite(sampling.repetition_penalty) &&
         sampling.top_k >= 0;
}

// Of the payload only its size: `Guidance` reads it, the engine the grammar.
inline bool is_valid(const Steering& steering, std::uint32_t payload_bytes) noexcept {
  return steering.top_logprobs <= kTopLogprobsMax && steering.prompt_logprobs <= 1 &&
         steering.bias_pairs <= kBiasPairsMax && steering.bad_words <= kBadWordsMax &&
         steering.bad_word_tokens <= kBadWordTokensMax && steering.grammar_bytes <= kGrammarBytesMax &&
         payload_bytes == payload_bytes_of(steering);
}

// A vector has no tokens that anything could be asked of.
inline bool is_valid(Pooling pooling, const SubmitHead& head) noexcept {
  return pooling == Pooling::kNone ||
         (pooling <= Pooling::kLast && head.max_tokens == 1 && head.payload_bytes == 0 &&
          head.steering.top_logprobs == 0 && head.steering.prompt_logprobs == 0);
}

// `prompt` holds head.prompt_tokens ids.
inline bool is_valid(const SubmitHead& head, const std::int32_t* prompt, const Limits& limits) noexcept {
  return head.prompt_tokens >= 1 && head.prompt_tokens < static_cast<std::uint32_t>(limits.tokens_max()) &&
         head.max_tokens >= 1 && head.stop_tokens <= kStopTokensMax && is_valid(head.pooling, head) &&
         head.priority <= Priority::kBatch && head.tenant < kTenantsMax && std::isfinite(head.arrived_s) &&
         head.deadline_s > -std::numeric_limits<double>::infinity() &&
         is_valid(head.sampling) && is_valid(head.steering, head.payload_bytes) &&
         are_tokens(head.stop_token_ids, head.stop_tokens, limits.vocab) &&
         are_tokens(prompt, head.prompt_tokens, limits.vocab);
}

}  // namespace aruntime
