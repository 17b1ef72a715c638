// The rule of the door: whether a request is let in, else why not and when there will be room.
//
// Pure: what is counted, the pace and the time left are passed in. The front end's door, the scheduler's last word and
// the simulator ask the same function.
//
//   class          interactive   standard   batch
//   leaves free    nothing       1/16       1/4       of the queue and of the objective, so that a higher class finds room
//                                                     (trunk reservation, Kelly 1991)
//
// One tenant of several may hold at most as much as is left free: whoever floods leaves half, two who flood leave a third
// (dynamic thresholds, Choudhury & Hahne 1998, with alpha 1). Places that are free are nobody's: while there is one, neither
// rule refuses. A queue that takes longer than the objective leaves serves nobody in time, so it is not let grow so long.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "admission/forecast.hpp"
#include "queue/records.hpp"

namespace aruntime::admission {

enum class Refusal : std::uint8_t {
  kNone = 0,
  kDeadline = 1,  // it cannot be answered before its deadline
  kFull = 2,      // sequences_max + waiting_max are in flight, or what its class may have of them
  kTokens = 3,    // too many prompt tokens are queued
  kSlow = 4,      // the queue would make it miss the objective
  kShare = 5,     // its tenant holds as much as the others are left
};

// What a replica takes.
struct Bounds {
  std::int64_t sequences_max = 1;
  std::int64_t waiting_max = 1;
  std::int64_t waiting_tokens_max = std::numeric_limits<std::int64_t>::max();
  double ttft_s = std::numeric_limits<double>::infinity();
};

// What a replica holds now.
struct Standing {
  Held all, tenant;
  Classes classes{};         // of the tenant's queue; what is not said to be of a lower class is of its own
  double rivals_weight = 0;  // of the other tenants that have something queued
  std::int64_t lead_tokens = 0;  // what the tenant may have prefilled before any of them
  bool shared = false;       // more tenants than this one are known
  double drain_s = 0;        // until all of it has ended; 0 when not known
};

struct Request {
  std::int64_t sequences = 1;
  std::int64_t prompt_tokens = 1;  // over all sequences
  Priority priority = Priority::kStandard;
  double weight = 1;
  double left_s = std::numeric_limits<double>::infinity();  // until its deadline
  double spent_s = 0;                                       // since it arrived
  std::int64_t tokens_min = 1;                              // that a whole answer has for certain
};

struct Verdict {
  Refusal refusal = Refusal::kNone;
  double retry_after_s = 0;  // 1 to 60; 0 when let in, and when coming again would not help
  double each_s = 0;         // how much later there is room for one more like it
  Forecast forecast;
  double queue_s = 0;  // the forecast wait, and enough
  double whole_s = 0;  // until the least that it can answer is said
};

inline constexpr double kRetryAfterMinS = 1, kRetryAfterMaxS = 60;

// What a class leaves free for those above it, as one part of so many; an infinity of parts is nothing.
inline double parts_of(Priority priority) noexcept {
  return priority == Priority::kInteractive ? std::numeric_limits<double>::infinity()
         : priority == Priority::kStandard  ? 16.0 : 4.0;
}
// What of `max` requests of this class may fill: whole numbers are rounded up, so the smallest queue is one for all.
inline std::int64_t fillable(std::int64_t max, Priority priority) noexcept {
  return max - static_cast<std::int64_t>(static_cast<double>(max) / parts_of(priority));
}

// How many of `more` are too many: for all, beyond `max`; for the tenant, beyond what is free of it as each of them comes,
// so a burst leaves as much room as if they had come one by one. 0 when `more` fits, as always within the first `unshared`.
struct Excess {
  std::int64_t all = 0, tenant = 0;
};
inline Excess excess(std::int64_t all, std::int64_t tenant, std::int64_t more, std::int64_t unshared, std::int64_t max,
                     bool shared) noexcept {
  if (all + more <= unshared) return {};
  const std::int64_t free = max - all;  // less than nothing, where a higher class has filled more
  const std::int64_t over = tenant + more - (free - (more - 1));
  return {std::max<std::int64_t>(0, more - free), shared ? std::max<std::int64_t>(0, over) : 0};
}

// How many sequences of `request` are too many. The scheduler's last word asks this and nothing else.
inline Excess sequences_over(const Bounds& bounds, const Standing& now, const Request& request) noexcept {
  return excess(now.all.in_flight, now.tenant.in_flight, request.sequences, bounds.sequences_max,
                bounds.sequences_max + fillable(bounds.waiting_max, request.priority), now.shared);
}

// The same for its prompt tokens; a queue of none takes any request.
inline Excess tokens_over(const Bounds& bounds, const Standing& now, const Request& request) noexcept {
  if (now.all.queued_tokens == 0) return {};
  return excess(now.all.queued_tokens, now.tenant.queued_tokens, request.prompt_tokens, 0,
                fillable(bounds.waiting_tokens_max, request.priority), now.shared);
}

// Whether a replica that holds nothing would take so many sequences. If not, no wait helps.
inline bool could_hold(const Bounds& bounds, bool shared, const Request& request) noexcept {
  Standing empty;
  empty.shared = shared;
  const Excess over = sequences_over(bounds, empty, request);
  return over.all == 0 && over.tenant == 0;
}

// `ratio` is the calibration's.
inline Verdict judge(const Bounds& bounds, const Standing& now, const Pace& pace, const Ratio& ratio,
                     const Request& request) noexcept {
  Verdict verdict;
  const Held before = counted_before(now.tenant, now.classes, request.priority, request.sequences, request.prompt_tokens);
  verdict.forecast = forecast(pace, now.all, before, request.weight, now.rivals_weight, request.sequences,
                              request.prompt_tokens, now.lead_tokens);
  verdict.queue_s = verdict.forecast.wait_s * ratio.enough;
  const auto refuse = [&](Refusal refusal, double seconds, double each_s) {
    verdict.refusal = refusal;
    verdict.retry_after_s = std::clamp(seconds, kRetryAfterMinS, kRetryAfterMaxS);
    verdict.each_s = each_s;
    return verdict;
  };
  // A whole answer needs its first token, and a step for each that is sure to follow.
  verdict.whole_s = verdict.forecast.first_s + static_cast<double>(request.tokens_min - 1) * pace.step_s;
  if (request.left_s <= verdict.whole_s * ratio.certain) {
    verdict.refusal = Refusal::kDeadline;
    return verdict;
  }
  // Between two ends: while every place is taken, one is taken up for each that ends.
  const double end_s = pace.take_up_s > 0 ? pace.take_up_s
                       : now.all.in_flight > 0 ? now.drain_s / static_cast<double>(now.all.in_flight) : 0;
  const double token_s = pace.prefill_tokens_per_s > 0 ? 1 / pace.prefill_tokens_per_s : 0;
  const Excess sequences = sequences_over(bounds, now, request);
  const Excess tokens = tokens_over(bounds, now, request);
  const double each_s = static_cast<double>(request.sequences) * end_s;
  if (sequences.all > 0) return refuse(Refusal::kFull, static_cast<double>(sequences.all) * end_s, each_s);
  if (tokens.all > 0) {
    return refuse(Refusal::kTokens, static_cast<double>(tokens.all) * token_s,
                  static_cast<double>(request.prompt_tokens) * token_s);
  }
  if (sequences.tenant > 0 || tokens.tenant > 0) {
    return refuse(Refusal::kShare, std::max(static_cast<double>(sequences.tenant) * end_s,
                                            static_cast<double>(tokens.tenant) * token_s), each_s);
  }
  // Its own prompt, and what has passed already, are not the queue's fault: they count for at most half the objective.
  const double objective_s = bounds.ttft_s * (1 - 1 / parts_of(request.priority));
  const double own_s = request.spent_s + verdict.forecast.first_s * ratio.enough - verdict.queue_s;
  const double late_s = verdict.queue_s + std::min(own_s, objective_s / 2) - objective_s;
  if (late_s > 0) return refuse(Refusal::kSlow, late_s, each_s);
  return verdict;
}

// When each of those who are refused shall come again: not all at the moment at which there is room for one.
//
// A tenant's queue outside the door, of which only the end is kept (virtual scheduling, ITU-T I.371).
class Turns {
 public:
  // Seconds until the turn of one more, who was told that there will be room after `verdict.retry_after_s`.
  double next_s(const Verdict& verdict, double now_s) noexcept {
    if (!(verdict.retry_after_s > 0)) return 0;
    last_s_ = std::min(std::max(last_s_ + verdict.each_s, now_s + verdict.retry_after_s), now_s + kRetryAfterMaxS);
    return last_s_ - now_s;
  }

 private:
  double last_s_ = 0;
};

}  // namespace aruntime::admission
