// When a request that is let in now would give its first token, and how far such forecasts are to be trusted.
//
//   prefill_s = (its tenant's queued prompt tokens + this prompt) / (pace * share)     share = weight / all that want
//   place_s   = (its tenant's queued sequences + these) * take_up_s / share            only while every place is taken
//   first_s   = max(prefill_s, place_s) + a step
//
// Nobody waits longer than all that is queued takes together, whatever his share: the server is never idle on purpose.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace aruntime::admission {

// How fast the replica is, as its engine measured. 0 tokens a second: not known yet.
struct Pace {
  double step_s = 0;
  double prefill_tokens_per_s = 0;  // among the sequences that decode now
  double take_up_s = 0;             // between two sequences taken up; 0 while there are places
};

// Sequences in flight, and of these the ones without a token yet, with the tokens of their prompts.
struct Held {
  std::int64_t in_flight = 0;
  std::int64_t queued = 0;
  std::int64_t queued_tokens = 0;
};

struct Forecast {
  double wait_s = 0;   // until its turn comes: what the queue costs it
  double first_s = 0;  // until each of its sequences has a token; 0 when the pace is not known
};

// `rivals_weight`: the weights of the other tenants that have something queued.
inline Forecast forecast(const Pace& pace, const Held& all, const Held& tenant, double weight, double rivals_weight,
                         std::int64_t sequences, std::int64_t prompt_tokens) noexcept {
  if (!(pace.prefill_tokens_per_s > 0)) return {};
  const double slowdown = (weight + rivals_weight) / weight;
  // The time for `more` behind what is queued, each at `unit_s`.
  const auto behind = [&](std::int64_t own, std::int64_t everybody, std::int64_t more, double unit_s) {
    const auto own_s = static_cast<double>(own + more) * slowdown;
    return std::min(own_s, static_cast<double>(std::max(own, everybody) + more)) * unit_s;
  };
  const double token_s = 1 / pace.prefill_tokens_per_s;
  const auto after = [&](std::int64_t more_sequences, std::int64_t more_tokens) {
    return std::max(behind(tenant.queued_tokens, all.queued_tokens, more_tokens, token_s),
                    behind(tenant.queued, all.queued, more_sequences, pace.take_up_s));
  };
  return {after(1, 0), after(sequences, prompt_tokens) + pace.step_s};
}

// The ratio actual / forecast that nine of ten requests exceed, learnt from each first token.
//
// Source: stochastic approximation of a quantile (Robbins & Monro 1951), on the logarithm: a ratio has no scale. A forecast
// times this is what almost nobody undercuts, so a deadline before it is out of reach and few are refused who would have
// made it.
class Calibration {
 public:
  double ratio() const noexcept { return std::exp(log_ratio_); }

  // Takes in that the first token came after `actual_s`.
  void note(double forecast_s, double actual_s) noexcept {
    if (!(forecast_s > 0) || !(actual_s > 0)) return;
    const bool below = actual_s < forecast_s * ratio();
    log_ratio_ = std::clamp(log_ratio_ + kGain * (kQuantile - (below ? 1.0 : 0.0)), kLogMin, kLogMax);
  }

 private:
  static constexpr double kQuantile = 0.1;
  static constexpr double kGain = 0.05;
  static constexpr double kLogMin = -4.0, kLogMax = 1.0;  // 0.018 to 2.7
  double log_ratio_ = -0.7;  // half the forecast, until we know better
};

}  // namespace aruntime::admission
