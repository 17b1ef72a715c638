// How sequences come, end, and are told of. Part of scheduler.hpp.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

// Records of one sequence that are taken before the next has its turn: one may have as many to tell as its prompt is long.
inline constexpr std::uint32_t kRecordsInTurn = 256;

inline Scheduler::Scheduler(const Limits& limits, std::vector<std::int32_t> eos)
    : limits_((limits.check(), limits)),
      eos_(std::move(eos)),
      pool_(limits.blocks, limits.block_tokens, limits.prefix_secret),
      block_tenant_(static_cast<std::size_t>(limits.blocks)),
      steps_{StepPlan(limits, eos_.size()), StepPlan(limits, eos_.size())} {
  followers_.reserve(limits.here_max());
  decoding_.reserve(static_cast<std::size_t>(limits.sequences_max));
  chosen_.reserve(static_cast<std::size_t>(limits.sequences_max));
  for (std::int32_t place = limits.sequences_max; place-- > 0;) pool_places_.push_back(place);
  match_.blocks.reserve(static_cast<std::size_t>(limits.blocks_for(limits.tokens_max())));
}

inline void Scheduler::set_bounds(std::int32_t waiting_max, double itl_s) {
  Limits limits = limits_;
  limits.waiting_max = waiting_max;
  limits.itl_s = itl_s;
  limits.check();
  limits_ = limits;
  followers_.reserve(limits.here_max());
}

inline void Scheduler::set_tenant(std::uint32_t tenant, const TenantTerms& terms) {
  terms.check();
  order_.set_terms(tenant, terms);
  tenants_end_ = std::max(tenants_end_, tenant + 1);
}

inline FinishReason Scheduler::submit(std::uint32_t front_end, const SubmitHead& head, const std::int32_t* prompt,
                                      const std::byte* payload) {
  FrontEnd& owner = front_ends_[front_end];
  const std::uint64_t key = FrontEnd::key(head.slot, head.generation);
  if (owner.sequences.contains(key)) return FinishReason::kInvalid;
  std::unique_ptr<Guidance> guidance;
  FinishReason reason = refusal(owner, head, prompt);
  if (reason == FinishReason::kNone && (head.steering.bias_pairs > 0 || head.steering.bad_words > 0)) {
    guidance = std::make_unique<Guidance>();
    if (!guidance->read(head.steering, payload, limits_.vocab)) reason = FinishReason::kInvalid;
  }
  if (reason != FinishReason::kNone) {
    OutputRecord record;
    record.slot = head.slot;
    record.generation = head.generation;
    record.finish = reason;
    if (!backlogged(front_end)) owner.refusals.push_back(record);
    return reason;
  }
  Sequence& sequence = make();
  const Tenant& tenant = order_.tenant(head.tenant);
  sequence.begin(head, prompt, std::move(guidance), limits_, eos_, tenant.blocks_max(limits_.blocks));
  sequence.root = tenant.terms.prefix_group;
  sequence.front_end = front_end;
  tenants_end_ = std::max(tenants_end_, head.tenant + 1);
  sequence.number = ++submits_;
  pool_.extend(sequence.root, prompt, sequence.prompt_tokens, sequence.prefixes);
  owner.sequences.emplace(key, &sequence);
  // From here on nothing is allocated for it.
  counted_.tokens_left += sequence.tokens_left();
  Flow& flow = order_.tenant(sequence).flow(sequence);
  flow.queue.reserve(static_cast<std::size_t>(++flow.here));
  deadlines_.reserve(sequences_.size());
  if (std::isfinite(sequence.deadline_s)) deadlines_.add(sequence);
  sequence.held ? rest(sequence) : wait(sequence);
  return FinishReason::kNone;
}

inline void Scheduler::release(const Owner& owner, bool good) {
  Sequence* sequence = find(owner.front_end, owner.slot, owner.generation);
  if (!sequence || !sequence->held) return;
  sequence->held = false;
  if (!good) return finish(*sequence, FinishReason::kGrammar);
  resume(owner.front_end, owner.slot, owner.generation);
}

inline FinishReason Scheduler::refusal(const FrontEnd& owner, const SubmitHead& head,
                                       const std::int32_t* prompt) noexcept {
  if (draining_) return FinishReason::kDraining;
  if (!is_valid(head, prompt, limits_)) return FinishReason::kInvalid;
  const Tenant& tenant = order_.tenant(head.tenant);
  if (tenant.blocks_max(limits_.blocks) * limits_.block_tokens <= head.prompt_tokens) return FinishReason::kInvalid;
  // The second bound is for a front end that does not take its ends: it fills its own share, not the others'.
  if (counted_.waiting >= limits_.waiting_max || owner.sequences.size() >= limits_.here_max()) {
    return FinishReason::kOverloaded;
  }
  // Two front ends that both saw the last place of a tenant's share have both let in; the later one hears it here.
  const admission::Bounds bounds{.sequences_max = limits_.sequences_max, .waiting_max = limits_.waiting_max};
  admission::Standing now;
  now.shared = tenants_end_ > 2;  // one of them is nobody
  now.all.in_flight = counted_.waiting + counted_.running + counted_.paused;
  now.tenant.in_flight = tenant.here();
  const admission::Request request{.priority = head.priority};
  return admission::sequences_over(bounds, now, request).tenant > 0 ? FinishReason::kOverloaded : FinishReason::kNone;
}

inline bool Scheduler::backlogged(std::uint32_t front_end) const noexcept {
  return front_ends_[front_end].refusals.size() >= kRefusalsMax;
}

// The sequence of that name, if it has not ended.
inline Sequence* Scheduler::find(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) noexcept {
  const auto& known = front_ends_[front_end].sequences;
  const auto found = known.find(FrontEnd::key(slot, generation));
  return found != known.end() && found->second->state != State::kFinished ? found->second : nullptr;
}

inline void Scheduler::cancel(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) {
  if (Sequence* sequence = find(front_end, slot, generation)) finish(*sequence, FinishReason::kCancelled);
}

inline void Scheduler::pause(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) {
  Sequence* sequence = find(front_end, slot, generation);
  if (!sequence || sequence->state == State::kPaused) return;
  if (sequence->pooling != Pooling::kNone) return;  // there is nothing to hold back but its end
  if (sequence->state == State::kPrefilling) preempt(*sequence);
  if (sequence->state == State::kDecoding) {
    stop_running(*sequence);
  } else {
    stop_waiting(*sequence);
  }
  rest(*sequence);
}

// Lets a sequence that is in nobody's way do nothing.
inline void Scheduler::rest(Sequence& sequence) noexcept {
  sequence.state = State::kPaused;
  ++counted_.paused;
  ++order_.tenant(sequence).paused;
}

inline void Scheduler::resume(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) {
  Sequence* sequence = find(front_end, slot, generation);
  if (!sequence || sequence->state != State::kPaused || sequence->held) return;
  --counted_.paused;
  --order_.tenant(*sequence).paused;
  if (sequence->resident() && counted_.running < limits_.sequences_max) {
    start_running(*sequence);
    return start_decoding(*sequence);
  }
  if (sequence->resident()) vacate(*sequence);
  wait(*sequence);
}

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
    const std::uint32_t turn_end = std::min(max, taken + kRecordsInTurn);
    while (taken < turn_end && end == FinishReason::kNone && take_record(sequence, out[taken])) end = out[taken++].finish;
    if (end != FinishReason::kNone) {
      owner.sequences.erase(FrontEnd::key(sequence.slot, sequence.generation));
      owner.forget(sequence);
      recycle(sequence);
    } else if (taken < max) {
      owner.forget(sequence);
      if (taken == turn_end) owner.tell(sequence);  // the others first
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

// Lets a sequence that holds no blocks wait to be taken up.
inline void Scheduler::wait(Sequence& sequence) {
  order_.enter(sequence);
  count_waiting(sequence);
}

inline void Scheduler::stop_waiting(Sequence& sequence) {
  if (sequence.following()) {
    std::erase(followers_, &sequence);
    sequence.awaited = {};
  } else {
    order_.leave(sequence);
  }
  uncount_waiting(sequence);
}

// Whoever ran before stands before whoever has not.
inline void Scheduler::count_waiting(Sequence& sequence) {
  sequence.taken_up_size == 0 ? waiting_.push_back(sequence) : waiting_.push_front(sequence);
  sequence.state = State::kWaiting;
  ++counted_.waiting;
  counted_.waiting_tokens += sequence.size();
  ++order_.tenant(sequence).waiting;
}

inline void Scheduler::uncount_waiting(Sequence& sequence) noexcept {
  waiting_.remove(sequence);
  --counted_.waiting;
  counted_.waiting_tokens -= sequence.size();
  --order_.tenant(sequence).waiting;
}

// Takes a sequence that lives out of everything but its front end's books.
inline void Scheduler::retire(Sequence& sequence) {
  if (sequence.state == State::kFinished) return;
  if (std::isfinite(sequence.deadline_s)) deadlines_.remove(sequence);
  if (sequence.state == State::kWaiting) stop_waiting(sequence);
  if (sequence.state == State::kPrefilling) order_.leave(sequence);
  if (sequence.state == State::kPaused) {
    --counted_.paused;
    --order_.tenant(sequence).paused;
  }
  if (sequence.resident()) vacate(sequence);
  --order_.tenant(sequence).flow(sequence).here;
  counted_.tokens_left -= sequence.tokens_left();
  if (sequence.guided) guided_ended_.push_back({sequence.front_end, sequence.slot, sequence.generation});
  sequence.state = State::kFinished;
}

inline void Scheduler::finish(Sequence& sequence, FinishReason reason) {
  if (sequence.state == State::kFinished) return;
  retire(sequence);
  sequence.finish = reason;
  front_ends_[sequence.front_end].tell(sequence);
}

inline void Scheduler::expire(double now_s) {
  while (Sequence* sequence = deadlines_.first()) {
    if (sequence->deadline_s > now_s) break;
    finish(*sequence, FinishReason::kDeadline);
  }
}

inline double Scheduler::next_deadline_s() const noexcept {
  const Sequence* next = deadlines_.first();
  return next ? next->deadline_s : std::numeric_limits<double>::infinity();
}

}  // namespace aruntime
