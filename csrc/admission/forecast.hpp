// When a request that is let in now would give its first token, and how far such forecasts are to be trusted.
//
//   prefill_s = (its tenant's queued prompt tokens + this prompt) / (pace * share)     share = weight / all that want
//   place_s   = (its tenant's queued sequences + these) * take_up_s / share            only while every place is taken
//   first_s   = max(prefill_s, place_s) + a step
//
// A tenant that has had less than its share is served before all others until it has caught up (its lead): so much of what
// it has queued takes no longer than alone.
// Of its tenant's queue counts whole what is of its class or a higher one. Of a lower class counts what is served of it
// meanwhile: for 16 tokens of interactive ones, 4 of standard and 1 of batch ones (kClassWeight). Nobody waits longer than
// all that is queued takes together, whatever his share: the server is never idle on purpose.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "queue/records.hpp"

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

// What is queued of one class of a tenant.
struct Queued {
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
};
using Classes = std::array<Queued, kClassWeight.size()>;  // by Priority

// What counts of `tenant`, whose queue is of these `classes`, before a request of `priority` with so much of its own.
inline Held counted_before(Held tenant, const Classes& classes, Priority priority, std::int64_t sequences,
                           std::int64_t prompt_tokens) noexcept {
  const auto own = static_cast<std::size_t>(priority);
  for (std::size_t lower = own + 1; lower < classes.size(); ++lower) {
    tenant.queued -= classes[lower].sequences;
    tenant.queued_tokens -= classes[lower].tokens;
  }
  const Held whole = tenant;
  for (std::size_t lower = own + 1; lower < classes.size(); ++lower) {
    const auto meanwhile = [&](std::int64_t served, std::int64_t queued) {
      return std::min(queued, static_cast<std::int64_t>(static_cast<double>(served) * kClassWeight[lower] / kClassWeight[own]));
    };
    tenant.queued += meanwhile(whole.queued + sequences, classes[lower].sequences);
    tenant.queued_tokens += meanwhile(whole.queued_tokens + prompt_tokens, classes[lower].tokens);
  }
  return tenant;
}

struct Forecast {
  double wait_s = 0;   // until its turn comes: what the queue costs it
  double first_s = 0;  // until each of its sequences has a token; 0 when the pace is not known
};

// `rivals_weight`: the weights of the other tenants that have something queued. `lead_tokens`: what the tenant may have
// prefilled before anybody else.
inline Forecast forecast(const Pace& pace, const Held& all, const Held& tenant, double weight, double rivals_weight,
                         std::int64_t sequences, std::int64_t prompt_tokens, std::int64_t lead_tokens = 0) noexcept {
  if (!(pace.prefill_tokens_per_s > 0)) return {};
  const auto wanted = static_cast<double>(std::max<std::int64_t>(1, tenant.queued_tokens + prompt_tokens));
  const double shared = std::clamp(1 - static_cast<double>(lead_tokens) / wanted, 0.0, 1.0);
  const double slowdown = 1 + shared * rivals_weight / weight;
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

// The ratio actual / forecast that a share of all forecasts stays below, learnt from one after the other.
//
// Source: stochastic approximation of a quantile (Robbins & Monro 1951), on the logarithm: a ratio has no scale.
class Quantile {
 public:
  Quantile(double share, double first_ratio) noexcept : share_(share), log_ratio_(std::log(first_ratio)) {}

  double ratio() const noexcept { return std::exp(log_ratio_); }

  void note(double forecast_s, double actual_s) noexcept {
    if (!(forecast_s > 0) || !(actual_s > 0)) return;
    const bool below = actual_s < forecast_s * ratio();
    log_ratio_ = std::clamp(log_ratio_ + kGain * (share_ - (below ? 1.0 : 0.0)), kLogMin, kLogMax);
  }

 private:
  static constexpr double kGain = 0.05;
  static constexpr double kLogMin = -4.0, kLogMax = 2.0;  // 0.018 to 7.4
  double share_;
  double log_ratio_;
};

// What a forecast is to be multiplied by: to be certain that it takes so long, and to be certain that it does not.
struct Ratio {
  // One number alone: `certain`, of a forecast that is otherwise taken as it is.
  Ratio(double certain, double enough = 1) noexcept : certain(certain), enough(enough) {}
  double certain;
  double enough;
};

// How far forecasts are to be trusted, as the first tokens have taught. `certain` is what nine of ten exceeded, so a
// deadline before it is out of reach and few are refused who would have made it. `enough` is what nineteen of twenty stayed
// below, so these meet an objective that is kept by it. What teaches is all that a front end can see: from the door to the
// first token, the queue and the prompt in one; what passed before the door it knows. Of queues teach only those for whom
// the queue was the larger part: at rest most of a short forecast is what no queue makes longer.
class Calibration {
 public:
  Ratio ratio() const noexcept { return {certain_.ratio(), enough_.ratio()}; }

  // The first token came after `actual_s`; `first_s` was forecast, `wait_s` of it in the queue.
  void note(double first_s, double actual_s, double wait_s = kAll) noexcept {
    certain_.note(first_s, actual_s);
    if (wait_s > first_s / 2) enough_.note(first_s, actual_s);
  }

 private:
  static constexpr double kAll = std::numeric_limits<double>::infinity();
  Quantile certain_{0.1, 0.5};  // half the forecast, until we know better
  Quantile enough_{0.95, 1.0};
};

}  // namespace aruntime::admission
