// Who gives way when there is no place or no block left. Part of scheduler.hpp.
//
//   a block for whoever decodes   of all that hold blocks, the first in this order, perhaps itself:
//                                   who is paused; tenants beyond their reservation, of these the one that holds most for
//                                   its weight; in it who will miss its deadline; the lower class; the last to come
//   blocks that are reserved      of tenants beyond their own reservation only, in the same order
//   a place in the steps          a tenant below its reserved service takes one of a tenant that is not; one below its
//                                   share of the places, or far behind in service, takes one of a tenant above its own
//                                   share that has had more service; of the furthest above; within a tenant a class
//                                   whose turn it is takes one of a lower class. Never from whoever has not computed a
//                                   block's worth since it was taken up, so that two cannot chase each other round
//
// To yield costs little: the blocks stay in the cache until somebody needs them.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

// Whoever is behind another by so many tokens, for their weights, may take more than its share of the places from it.
inline constexpr double kFarBehindTokens = 1024.0;

// Shares the blocks that were matched. What nobody held counts for this tenant from now on.
inline void Scheduler::share(Sequence& sequence) {
  for (const std::int32_t block : match_.blocks) {
    if (pool_.holders(block) > 0) continue;
    block_tenant_[static_cast<std::size_t>(block)] = static_cast<std::uint16_t>(sequence.tenant);
    ++order_.tenant(sequence).blocks;
  }
  pool_.share(match_.blocks, sequence.blocks);
}

// Gives a sequence `blocks` more, which are free.
inline void Scheduler::hold(Sequence& sequence, std::int32_t blocks) {
  const std::size_t first = sequence.blocks.size();
  pool_.take(blocks, sequence.blocks);
  for (std::size_t i = first; i < sequence.blocks.size(); ++i) {
    block_tenant_[static_cast<std::size_t>(sequence.blocks[i])] = static_cast<std::uint16_t>(sequence.tenant);
  }
  order_.tenant(sequence).blocks += blocks;
}

// Takes a sequence out of the steps, if it is in them, and its blocks from it.
inline void Scheduler::vacate(Sequence& sequence) {
  if (sequence.running()) stop_running(sequence);
  for (const std::int32_t block : sequence.blocks) {
    if (pool_.holders(block) == 1) --order_.tenant(block_tenant_[static_cast<std::size_t>(block)]).blocks;
  }
  pool_.give_back(sequence.blocks);
  residents_.remove(sequence);
  sequence.residence = 0;
  sequence.charged = std::max(sequence.charged, sequence.planned);
  sequence.chosen = false;
  sequence.planned = sequence.computed = sequence.pending = 0;
  sequence.announced = sequence.published = 0;
  if (sequence.pool_place >= 0) pool_places_.push_back(sequence.pool_place);
  sequence.pool_place = -1;
}

// Takes a running sequence out of the steps; it keeps its blocks.
inline void Scheduler::stop_running(Sequence& sequence) noexcept {
  if (sequence.state == State::kDecoding) {
    Sequence& moved = *decoding_.back();
    decoding_[sequence.decoding_place] = &moved;
    moved.decoding_place = sequence.decoding_place;
    decoding_.pop_back();
  }
  Tenant& tenant = order_.tenant(sequence);
  --tenant.running;
  --tenant.flow(sequence).running;
  --counted_.running;
}

// Takes its blocks from a sequence that has some. It waits to be taken up again; one that is paused stays so.
inline void Scheduler::preempt(Sequence& sequence) {
  ++counted_.preemptions;
  if (sequence.state == State::kPrefilling) {
    order_.reorder(sequence, [&] { vacate(sequence); });
    count_waiting(sequence);
  } else {
    vacate(sequence);
    if (sequence.state == State::kDecoding) wait(sequence);
  }
}

// Takes their blocks from sequences that are paused while `wanted`, until there are none left.
template <typename Wanted>
inline void Scheduler::clear_paused(const Sequence& sequence, Yield who, Wanted wanted) {
  while (counted_.paused > 0 && wanted()) {
    Sequence* first = first_to_yield(sequence, who);
    if (!first || first->state != State::kPaused) return;
    preempt(*first);
  }
}

// Whether there are `blocks` for a newcomer, once `out` has left. A little stays free for those that decode, or the
// newcomer would soon be sent back (vLLM's watermark: 1 %).
inline bool Scheduler::has_room(std::int32_t blocks, const Sequence* out) const noexcept {
  std::int32_t free = pool_.free();
  if (out) {
    for (const std::int32_t block : out->blocks) free += pool_.holders(block) == 1;
  }
  const std::int32_t spare = counted_.running > 0 ? pool_.blocks() / 64 : 0;
  return free >= blocks + spare;
}

// Whether borrowers hold so much beyond their reservations that `blocks` could be had for the tenant of `sequence`.
inline bool Scheduler::can_reclaim(const Sequence& sequence, std::int32_t blocks) const noexcept {
  std::int64_t available = pool_.free();
  for (std::uint32_t number = 0; number < kTenantsMax; ++number) {
    const Tenant& tenant = order_.tenants()[number];
    if (number == sequence.tenant || tenant.blocks == 0) continue;
    available += std::max<std::int64_t>(0, tenant.blocks - tenant.blocks_reserved(limits_.blocks));
  }
  return available >= blocks;
}

// The order at the head of this file. Total: of two sequences one yields before the other.
inline bool Scheduler::yields_before(const Sequence& one, const Sequence& other) const noexcept {
  const bool paused = one.state == State::kPaused;
  if (paused != (other.state == State::kPaused)) return paused;
  if (one.tenant != other.tenant) {
    const Tenant& owner = order_.tenants()[one.tenant];
    const Tenant& others = order_.tenants()[other.tenant];
    const bool borrows = owner.blocks > owner.blocks_reserved(limits_.blocks);
    if (borrows != (others.blocks > others.blocks_reserved(limits_.blocks))) return borrows;
    const double load = static_cast<double>(owner.blocks) / owner.terms.weight;
    const double load_other = static_cast<double>(others.blocks) / others.terms.weight;
    return load != load_other ? load > load_other : one.tenant > other.tenant;
  }
  const bool late = is_hopeless(one, one.size() - one.planned, planned_s_);
  if (late != is_hopeless(other, other.size() - other.planned, planned_s_)) return late;
  if (one.priority != other.priority) return one.priority > other.priority;
  return one.number > other.number;
}

// The first in that order, of those who may have to; null when there is none.
inline Sequence* Scheduler::first_to_yield(const Sequence& to, Yield who) noexcept {
  Sequence* first = nullptr;
  for (Sequence* one = residents_.first(); one; one = List<Sequence, &Sequence::resident_link>::next(*one)) {
    const Tenant& owner = order_.tenant(*one);
    if (who == Yield::kOwnTenant && one->tenant != to.tenant) continue;
    if (who == Yield::kBorrowers &&
        (one->tenant == to.tenant || owner.blocks <= owner.blocks_reserved(limits_.blocks))) {
      continue;
    }
    if (!first || yields_before(*one, *first)) first = one;
  }
  return first;
}

// Whose place in the steps `sequence` takes, when all are taken; null when it has to wait for one.
inline Sequence* Scheduler::gives_place_to(const Sequence& sequence) noexcept {
  const auto share = [&](const Tenant& tenant) {
    return std::max(1.0, limits_.sequences_max * tenant.terms.weight / order_.present_weight());
  };
  Tenant& own = order_.tenant(sequence);
  const Tenant* above = nullptr;
  double furthest = 0.0;
  const double ahead = own.virtual_time + (own.running + 1 <= share(own) ? 0.0 : kFarBehindTokens);
  for (const std::uint32_t number : order_.present()) {
    const Tenant& other = order_.tenants()[number];
    const double beyond = (other.running - share(other)) / other.terms.weight;
    const bool owes = FairOrder::is_owed(own) && !FairOrder::is_owed(other);
    if (&other == &own || other.running == 0 || !(owes || (other.virtual_time > ahead && beyond > 0.0))) continue;
    if (!above || beyond > furthest) above = &other, furthest = beyond;
  }
  const auto is_lower = [&](Priority priority) {
    const Flow& flow = own.flows[static_cast<std::size_t>(priority)];
    return priority > sequence.priority && flow.running > 0 &&
           FairOrder::turn(own, flow) > FairOrder::turn(own, own.flow(sequence));
  };
  if (!above && !is_lower(Priority::kStandard) && !is_lower(Priority::kBatch)) return nullptr;
  Sequence* first = nullptr;
  for (Sequence* one : decoding_) {
    if (&order_.tenant(*one) != (above ? above : &own) || (!above && !is_lower(one->priority))) continue;
    if (one->size() - one->taken_up_size < limits_.block_tokens) continue;
    if (!first || yields_before(*one, *first)) first = one;
  }
  return first;
}

// Makes room for the next token of a sequence that decodes, at the cost of whoever yields first: itself, perhaps.
inline void Scheduler::secure_block(Sequence& sequence) {
  if (sequence.planned < static_cast<std::int32_t>(sequence.blocks.size()) * limits_.block_tokens) return;
  const Tenant& tenant = order_.tenant(sequence);
  while (true) {
    // A tenant's only sequence goes on even when its cap was lowered under it.
    const auto own = static_cast<std::int64_t>(sequence.blocks.size());
    const bool capped = tenant.blocks >= tenant.blocks_max(limits_.blocks) && tenant.blocks > own;
    if (!capped && pool_.free() > 0) break;
    Sequence& first = *first_to_yield(sequence, capped ? Yield::kOwnTenant : Yield::kAnybody);
    preempt(first);
    if (&first == &sequence) return;
  }
  hold(sequence, 1);
}

}  // namespace aruntime
