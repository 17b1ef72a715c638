// What the scheduler tells of itself, and what it foretells. Part of scheduler.hpp.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

inline Stats Scheduler::stats() const noexcept {
  Stats now = counted_;
  now.undelivered = static_cast<std::int64_t>(sequences_.size() - free_.size()) - now.waiting - now.running - now.paused;
  for (const FrontEnd& owner : front_ends_) now.undelivered += static_cast<std::int64_t>(owner.refusals.size());
  now.blocks_free = pool_.free();
  now.blocks_cached = pool_.cached();
  now.blocks_total = pool_.blocks();
  now.blocks_reserved = order_.blocks_reserved(limits_.blocks);
  for (const std::uint32_t number : order_.wanting()) now.waiting_weight += order_.tenants()[number].terms.weight;
  if (!waiting_.empty()) now.oldest_s = waiting_.first()->arrived_s;
  forecast(now);
  return now;
}

// What the pace says of the time to come.
inline void Scheduler::forecast(Stats& now) const noexcept {
  now.take_up_s = full_ && taken_up_ > 0.0 ? full_s_ / taken_up_ : 0.0;
  if (!pace_.known()) return;
  StepWork work = decodes_;
  now.step_s = pace_.seconds(work);
  work.prefill_tokens = prefill_room();
  now.prefill_tokens_per_s = static_cast<double>(work.prefill_tokens) / pace_.seconds(work);
  const double turns = std::ceil(static_cast<double>(now.waiting + now.running) / limits_.sequences_max);
  now.drain_s = static_cast<double>(now.waiting_tokens) / now.prefill_tokens_per_s + turns * outputs_mean_ * now.step_s;
}

}  // namespace aruntime
