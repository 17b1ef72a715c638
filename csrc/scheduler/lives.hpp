// The scheduler's first half: how sequences come, end, and are told of. Part of scheduler.hpp.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

inline Scheduler::Scheduler(const Limits& limits, std::vector<std::int32_t> eos)
    : limits_((limits.check(), limits)), eos_(std::move(eos)), pool_(limits.blocks), plan_(limits, eos_.size()) {
  decoding_.reserve(static_cast<std::size_t>(limits.sequences_max));
  prefilling_.reserve(static_cast<std::size_t>(limits.sequences_max));
}

inline FinishReason Scheduler::submit(std::uint32_t front_end, const SubmitHead& head, const std::int32_t* prompt) {
  FrontEnd& owner = front_ends_[front_end];
  const std::uint64_t key = FrontEnd::key(head.slot, head.generation);
  if (owner.sequences.contains(key)) return FinishReason::kInvalid;
  if (const FinishReason reason = refusal(owner, head, prompt); reason != FinishReason::kNone) {
    OutputRecord record;
    record.slot = head.slot;
    record.generation = head.generation;
    record.finish = reason;
    if (!backlogged(front_end)) owner.refusals.push_back(record);
    return reason;
  }
  Sequence& sequence = make();
  sequence.begin(head, prompt, limits_, eos_);
  sequence.front_end = front_end;
  sequence.number = ++submits_;
  sequence.state = State::kWaiting;
  owner.sequences.emplace(key, &sequence);
  deadlines_.add(sequence);
  waiting_.enter(sequence);
  ++counted_.waiting;
  counted_.waiting_tokens += sequence.size();
  return FinishReason::kNone;
}

inline FinishReason Scheduler::refusal(const FrontEnd& owner, const SubmitHead& head,
                                       const std::int32_t* prompt) const noexcept {
  if (draining_) return FinishReason::kDraining;
  if (!is_valid(head, prompt, limits_)) return FinishReason::kInvalid;
  // The second bound is for a front end that does not take its ends: it fills its own share, not the others'.
  const auto held_max = static_cast<std::size_t>(limits_.waiting_max) + static_cast<std::size_t>(limits_.sequences_max);
  const bool full = counted_.waiting >= limits_.waiting_max || owner.sequences.size() >= held_max;
  return full ? FinishReason::kOverloaded : FinishReason::kNone;
}

inline bool Scheduler::backlogged(std::uint32_t front_end) const noexcept {
  return front_ends_[front_end].refusals.size() >= kRefusalsMax;
}

inline void Scheduler::cancel(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) {
  const auto& known = front_ends_[front_end].sequences;
  const auto found = known.find(FrontEnd::key(slot, generation));
  if (found != known.end()) finish(*found->second, FinishReason::kCancelled);
}

inline void Scheduler::pause(std::uint32_t, std::uint32_t, std::uint32_t) {}
inline void Scheduler::resume(std::uint32_t, std::uint32_t, std::uint32_t) {}
inline void Scheduler::set_tenant(std::uint32_t tenant, const TenantTerms& terms) { terms_.at(tenant) = terms; }

inline void Scheduler::drop_front_end(std::uint32_t front_end) {
  FrontEnd& owner = front_ends_[front_end];
  for (const auto& [key, sequence] : owner.sequences) {
    retire(*sequence);
    recycle(*sequence);
  }
  owner = {};
}

inline std::uint32_t Scheduler::take_outputs(std::uint32_t front_end, OutputRecord* out, std::uint32_t max) {
  FrontEnd& owner = front_ends_[front_end];
  std::uint32_t taken = 0;
  for (; taken < max && !owner.refusals.empty(); owner.refusals.pop_front()) out[taken++] = owner.refusals.front();
  while (taken < max && !owner.outgoing.empty()) {
    Sequence& sequence = *owner.outgoing.first();
    FinishReason end = FinishReason::kNone;
    while (taken < max && end == FinishReason::kNone && next_record(sequence, out[taken])) {
      sequence.delivered += out[taken].token >= 0;
      end = out[taken++].finish;
    }
    if (end != FinishReason::kNone) {
      owner.sequences.erase(FrontEnd::key(sequence.slot, sequence.generation));
      owner.forget(sequence);
      recycle(sequence);
    } else if (taken < max) {
      owner.forget(sequence);
    }
  }
  return taken;
}

inline Sequence& Scheduler::make() {
  if (free_.empty()) return sequences_.emplace_back();
  Sequence& sequence = *free_.back();
  free_.pop_back();
  return sequence;
}

// Makes a sequence that nothing refers to any more free, and its memory with it.
inline void Scheduler::recycle(Sequence& sequence) {
  sequence = Sequence{};
  free_.push_back(&sequence);
}

// Takes a sequence that lives out of everything but its front end's books.
inline void Scheduler::retire(Sequence& sequence) {
  if (sequence.state == State::kFinished) return;
  deadlines_.remove(sequence);
  if (sequence.running()) {
    vacate(sequence);
  } else {
    waiting_.leave(sequence);
    --counted_.waiting;
    counted_.waiting_tokens -= sequence.size();
  }
  sequence.state = State::kFinished;
}

inline void Scheduler::finish(Sequence& sequence, FinishReason reason) {
  if (sequence.state == State::kFinished) return;
  retire(sequence);
  sequence.finish = reason;
  front_ends_[sequence.front_end].tell(sequence);
}

inline void Scheduler::expire(double now_s) {
  while (Sequence* sequence = deadlines_.passed(now_s)) finish(*sequence, FinishReason::kDeadline);
}

inline Stats Scheduler::stats() const noexcept {
  Stats now = counted_;
  now.running = static_cast<std::int64_t>(decoding_.size() + prefilling_.size());
  now.undelivered = static_cast<std::int64_t>(sequences_.size() - free_.size()) - now.waiting - now.running;
  for (const FrontEnd& owner : front_ends_) now.undelivered += static_cast<std::int64_t>(owner.refusals.size());
  now.blocks_free = pool_.free();
  now.blocks_total = pool_.blocks();
  return now;
}

}  // namespace aruntime
