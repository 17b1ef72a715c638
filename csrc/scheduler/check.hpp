// Whether a submit can be served at all. It was read from shared memory: every number is looked at before it is used.
#pragma once

#include <cmath>
#include <cstdint>

#include "queue/records.hpp"
#include "scheduler/limits.hpp"

namespace aruntime {

// Whether all `count` ids name a token of the vocabulary. No early exit, so that it runs in vectors.
inline bool are_tokens(const std::int32_t* ids, std::uint32_t count, std::int32_t vocab) noexcept {
  std::uint32_t wrong = 0;
  for (std::uint32_t i = 0; i < count; ++i) wrong |= static_cast<std::uint32_t>(ids[i]) >= static_cast<std::uint32_t>(vocab);
  return wrong == 0;
}

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

// `prompt` holds head.prompt_tokens ids.
inline bool is_valid(const SubmitHead& head, const std::int32_t* prompt, const Limits& limits) noexcept {
  return head.prompt_tokens >= 1 && head.prompt_tokens < static_cast<std::uint32_t>(limits.tokens_max()) &&
         head.max_tokens >= 1 && head.stop_tokens <= kStopTokensMax &&
         head.priority <= Priority::kBatch && head.tenant < kTenantsMax && std::isfinite(head.arrived_s) &&
         head.deadline_s > -std::numeric_limits<double>::infinity() &&
         is_valid(head.sampling) &&
         are_tokens(head.stop_token_ids, head.stop_tokens, limits.vocab) &&
         are_tokens(prompt, head.prompt_tokens, limits.vocab);
}

}  // namespace aruntime
