// What a sequence tells beside its tokens: alternatives to each, and the prompt's own tokens with their logprobs.
//
// Row p of a prompt's logits foretells its token p + 1, so whoever wants them has every row computed, once. What has been
// computed waits here until it is taken, each record before the output that it belongs to: a full ring loses nothing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>

#include "queue/records.hpp"

namespace aruntime {

// OpenAI's number for a logprob too low to tell. Only a broken model says minus infinity or NaN of a prompt's token.
inline constexpr float kLowestLogprob = -9999.0f;

// What a step has computed of some rows: for each the logprob of its token, and `top` likely tokens, -1 where there are
// no more; `top` apart.
struct Likelihoods {
  const float* logprob = nullptr;
  const std::int32_t* top_token = nullptr;
  const float* top_logprob = nullptr;
  std::int32_t top = 0;
};

class Telling {
 public:
  explicit Telling(const Steering& steering, std::int32_t prompt_tokens)
      : top(steering.top_logprobs), rows(steering.prompt_logprobs ? prompt_tokens - 1 : 0) {}

  const std::int32_t top;   // alternatives of each token
  const std::int32_t rows;  // of the prompt's logits that are wanted, from the first on
  std::int32_t scored = 0;  // of these: computed

  // Takes in the prompt's next rows, whose tokens are `tokens`; `row` is the first of them in `likelihoods`.
  void score(const std::int32_t* tokens, std::int32_t count, const Likelihoods& likelihoods, std::int32_t row) {
    for (std::int32_t i = 0; i < count; ++i) {
      const auto place = static_cast<std::uint32_t>(++scored);
      add_alternatives(likelihoods, row + i, place, kPrompt);
      const float logprob = likelihoods.logprob[row + i];
      untold_.push_back({tokens[i], std::isfinite(logprob) ? std::max(logprob, kLowestLogprob) : kLowestLogprob, place,
                         kPrompt, RecordKind::kPromptToken});
    }
  }

  // Takes in the alternatives to the output of that index, if it comes to be one.
  void add_alternatives_to(std::int32_t output, const Likelihoods& likelihoods, std::int32_t row) {
    add_alternatives(likelihoods, row, static_cast<std::uint32_t>(output), output);
  }

  // Whether there is more to tell before the output `delivered`, of so many; of one that never came, nothing is told.
  bool has_untold(std::int32_t delivered, std::int32_t outputs) const noexcept {
    return !untold_.empty() && untold_.front().before <= delivered && untold_.front().before < outputs;
  }

  // Moves the first of that to `out`. Returns false, and writes nothing, when there is none.
  bool take(std::int32_t delivered, std::int32_t outputs, OutputRecord& out) {
    if (!has_untold(delivered, outputs)) return false;
    const Untold& next = untold_.front();
    out.token = next.token;
    out.logprob = next.logprob;
    out.index = next.index;
    out.kind = next.kind;
    untold_.pop_front();
    return true;
  }

 private:
  static constexpr std::int32_t kPrompt = -1;

  struct Untold {
    std::int32_t token;
    float logprob;
    std::uint32_t index;
    std::int32_t before;  // the output that it belongs to
    RecordKind kind;
  };

  void add_alternatives(const Likelihoods& from, std::int32_t row, std::uint32_t index, std::int32_t before) {
    for (std::int32_t i = 0; i < std::min(top, from.top); ++i) {
      const std::int32_t token = from.top_token[row * from.top + i];
      const float logprob = from.top_logprob[row * from.top + i];
      if (token < 0 || !std::isfinite(logprob)) return;
      untold_.push_back({token, std::max(logprob, kLowestLogprob), index, before, RecordKind::kAlternative});
    }
  }

  std::deque<Untold> untold_;
};

}  // namespace aruntime
