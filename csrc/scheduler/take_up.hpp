// How a waiting sequence gets its blocks: those that are there already, and fresh ones. Part of scheduler.hpp.
//
// A sequence whose prefix somebody computes just now follows: it waits until that is written, and then it is shared.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

// A wrong no is worse than a late one: of the time that a prompt seems to need, only so much is held to be certain.
inline constexpr double kCertain = 0.5;

// Those whose block is written, or will never be, wait for their turn again.
inline void Scheduler::rejoin_followers() {
  for (std::size_t at = 0; at < followers_.size();) {
    Sequence& sequence = *followers_[at];
    if (pool_.is_pending(sequence.awaited)) {
      ++at;
      continue;
    }
    sequence.awaited = {};
    followers_[at] = followers_.back();
    followers_.pop_back();
    order_.enter(sequence);
  }
}

// Gives a waiting sequence the blocks of all its tokens; or says why not, and changes nothing but who waits for what.
inline Scheduler::TakeUp Scheduler::take_up(Sequence& sequence, double now_s, bool no_blocks) {
  Sequence* out = nullptr;
  if (counted_.running == limits_.sequences_max && !(out = gives_place_to(sequence))) return TakeUp::kNoPlace;
  pool_.extend(sequence.root, sequence.tokens.data(), sequence.size(), sequence.prefixes);
  const std::int32_t shared_max = sequence.shareable() / limits_.block_tokens;
  pool_.match(sequence.root, sequence.tokens.data(), sequence.prefixes, shared_max, match_);
  const auto shared = static_cast<std::int32_t>(match_.blocks.size());
  if (is_hopeless(sequence, sequence.size() - shared * limits_.block_tokens, now_s)) {
    finish(sequence, FinishReason::kDeadline);
    return TakeUp::kHopeless;
  }
  if (match_.pending()) {
    order_.leave(sequence);
    sequence.awaited = match_.awaited;
    followers_.push_back(&sequence);
    return TakeUp::kFollows;
  }
  const Tenant& tenant = order_.tenant(sequence);
  const std::int64_t cap = tenant.blocks_max(limits_.blocks);
  const std::int32_t fresh = limits_.blocks_for(sequence.size()) - shared;
  const auto need = [&] { return fresh + pool_.unheld(match_.blocks); };
  const auto over_cap = [&] { return cap < limits_.blocks && tenant.blocks > 0 && tenant.blocks + need() > cap; };
  clear_paused(sequence, Yield::kOwnTenant, over_cap);
  if (over_cap()) return TakeUp::kTenantFull;
  const bool owed = tenant.blocks + need() <= tenant.blocks_reserved(limits_.blocks);
  if (no_blocks && !owed) return TakeUp::kNoBlocks;
  clear_paused(sequence, Yield::kAnybody, [&] { return !has_room(need(), out); });
  if (!has_room(need(), out) && !(owed && can_reclaim(sequence, need()))) return TakeUp::kNoBlocks;
  if (out) preempt(*out);
  while (pool_.free() < need()) {
    Sequence* borrower = owed ? first_to_yield(sequence, Yield::kBorrowers) : nullptr;
    if (!borrower) return TakeUp::kNoBlocks;
    preempt(*borrower);
  }
  settle(sequence, fresh);
  return TakeUp::kDone;
}

// The other half of taking up. From now on the sequence has its blocks, and whoever needs the same ones can follow it.
inline void Scheduler::settle(Sequence& sequence, std::int32_t fresh) {
  share(sequence);
  hold(sequence, fresh);
  const auto shared = static_cast<std::int32_t>(match_.blocks.size());
  const std::int32_t cached = shared * limits_.block_tokens;
  if (sequence.taken_up_size == 0) sequence.cached_tokens = std::min(cached, sequence.prompt_tokens);
  sequence.charged = std::max(sequence.charged, cached);
  sequence.planned = sequence.computed = cached;
  if (sequence.pooling == Pooling::kMean) {  // there is a place: whoever has one is in the steps
    sequence.pool_place = pool_places_.back();
    pool_places_.pop_back();
  }
  sequence.taken_up_size = sequence.size();
  sequence.prefix = match_.prefix;
  sequence.published = shared;
  sequence.announced = sequence.size() / limits_.block_tokens;
  pool_.announce(sequence.blocks, shared, sequence.announced, sequence.tokens.data(), sequence.prefixes,
                 sequence.prefix);
  uncount_waiting(sequence);
  order_.reorder(sequence, [&] { sequence.residence = ++residences_; });
  residents_.push_back(sequence);
  sequence.state = State::kPrefilling;
  start_running(sequence);
}

// Whether even alone, at once, it would say nothing before its deadline.
inline bool Scheduler::is_hopeless(const Sequence& sequence, std::int32_t tokens, double now_s) const noexcept {
  return pace_.known() && now_s + kCertain * tokens * pace_.prefill_token_s() > sequence.deadline_s;
}

inline void Scheduler::start_running(Sequence& sequence) noexcept {
  Tenant& tenant = order_.tenant(sequence);
  ++tenant.running;
  ++tenant.flow(sequence).running;
  ++counted_.running;
}

}  // namespace aruntime
