// What must hold between any two calls: each book of the scheduler against the others. Part of scheduler.hpp.
#pragma once

#include <stdexcept>
#include <string>

#include "scheduler/scheduler.hpp"

namespace aruntime {

inline void ensure(bool holds, const char* what, std::int64_t where) {
  if (!holds) throw std::logic_error(std::string(what) + " (" + std::to_string(where) + ")");
}

inline void Scheduler::check_integrity() const {
  pool_.check_integrity();
  check_blocks();
  check_waiting();
  check_running();
  check_deadlines();
  check_front_ends();
  check_tenants();
}

// A block has as many holders as there are tables that name it.
inline void Scheduler::check_blocks() const {
  std::vector<std::int32_t> holders(static_cast<std::size_t>(limits_.blocks), 0);
  for (const Sequence& sequence : sequences_) {
    for (const std::int32_t block : sequence.blocks) {
      ensure(are_tokens(&block, 1, limits_.blocks), "a block that does not exist", block);
      ++holders[static_cast<std::size_t>(block)];
    }
    ensure(sequence.resident() == !sequence.blocks.empty(), "a residence without blocks", sequence.slot);
    ensure(!sequence.running() || sequence.resident(), "running without a residence", sequence.slot);
    ensure(sequence.published <= sequence.announced, "published before it was announced", sequence.slot);
    ensure(sequence.published * limits_.block_tokens <= sequence.computed, "published before it was computed", sequence.slot);
  }
  for (std::int32_t block = 0; block < limits_.blocks; ++block) {
    ensure(pool_.holders(block) == holders[static_cast<std::size_t>(block)], "holders of a block miscounted", block);
  }
}

inline void Scheduler::check_waiting() const {
  std::int64_t waiting = 0, tokens = 0, following = 0;
  for (const Sequence* one = waiting_.first(); one; one = decltype(waiting_)::next(*one)) {
    ensure(one->state == State::kWaiting, "in the queue and not waiting", one->slot);
    ++waiting;
    tokens += one->size();
    following += one->following();
  }
  ensure(waiting == counted_.waiting, "waiting sequences miscounted", waiting);
  ensure(tokens == counted_.waiting_tokens, "waiting tokens miscounted", tokens);
  ensure(following == static_cast<std::int64_t>(followers_.size()), "followers miscounted", following);
  // There is room for as many followers as ever might be here: bounds may have been lowered since.
  ensure(waiting <= 2 * static_cast<std::int64_t>(followers_.capacity()), "too many wait", waiting);
}

inline void Scheduler::check_running() const {
  for (std::size_t place = 0; place < decoding_.size(); ++place) {
    const Sequence& sequence = *decoding_[place];
    ensure(sequence.state == State::kDecoding, "listed and not decoding", sequence.slot);
    ensure(sequence.decoding_place == place, "not at its place", sequence.slot);
    ensure(sequence.planned + 1 == sequence.size() + sequence.pending, "decoding with more than one token to go",
           sequence.slot);
  }
  std::int64_t running = 0, paused = 0, tokens_left = 0, pooling = 0;
  for (const Sequence& sequence : sequences_) {
    const bool lives = sequence.state != State::kFree && sequence.state != State::kFinished;
    tokens_left += lives ? sequence.tokens_left() : 0;
    running += sequence.running();
    paused += sequence.state == State::kPaused;
    pooling += sequence.pool_place >= 0;
    ensure((sequence.pool_place >= 0) == (sequence.resident() && sequence.pooling == Pooling::kMean),
           "a place for a sum that is not made", sequence.slot);
    if (sequence.state != State::kPrefilling) continue;
    ensure(sequence.planned < sequence.size(), "nothing to prefill", sequence.slot);
    ensure(static_cast<std::int32_t>(sequence.blocks.size()) == limits_.blocks_for(sequence.size()),
           "taken up without its blocks", sequence.slot);
  }
  ensure(running == counted_.running && paused == counted_.paused, "running or paused miscounted", running);
  ensure(tokens_left == counted_.tokens_left, "tokens left miscounted", tokens_left);
  ensure(running <= limits_.sequences_max, "too many run", running);
  ensure(pooling + static_cast<std::int64_t>(pool_places_.size()) == limits_.sequences_max, "places for sums miscounted",
         pooling);
}

inline void Scheduler::check_deadlines() const {
  std::size_t finite = 0;
  for (const Sequence& sequence : sequences_) {
    const bool lives = sequence.state != State::kFree && sequence.state != State::kFinished;
    finite += lives && std::isfinite(sequence.deadline_s);
  }
  const auto& heap = deadlines_.elements();
  ensure(heap.size() == finite, "deadlines miscounted", static_cast<std::int64_t>(finite));
  for (std::size_t place = 0; place < heap.size(); ++place) {
    ensure(heap[place]->deadline_place == place, "a deadline not at its place", heap[place]->slot);
    ensure(heap[(place - (place > 0)) / 2]->deadline_s <= heap[place]->deadline_s, "no heap", heap[place]->slot);
  }
}

// A tenant's books are the sums over its sequences.
inline void Scheduler::check_tenants() const {
  std::vector<Tenant> sums(kTenantsMax);
  for (const Sequence& sequence : sequences_) {
    Tenant& sum = sums[sequence.tenant];
    sum.waiting += sequence.state == State::kWaiting;
    sum.queued += sequence.queued() && !sequence.following();
    sum.running += sequence.running();
    sum.flow(sequence).running += sequence.running();
    sum.flow(sequence).here += sequence.state != State::kFree && sequence.state != State::kFinished;
    sum.paused += sequence.state == State::kPaused;
  }
  for (std::int32_t block = 0; block < limits_.blocks; ++block) {
    if (pool_.holders(block) > 0) ++sums[block_tenant_[static_cast<std::size_t>(block)]].blocks;
  }
  for (std::uint32_t number = 0; number < kTenantsMax; ++number) {
    const Tenant &sum = sums[number], &tenant = order_.tenants()[number];
    ensure(sum.waiting == tenant.waiting && sum.running == tenant.running && sum.paused == tenant.paused,
           "a tenant's sequences miscounted", number);
    ensure(sum.blocks == tenant.blocks, "a tenant's blocks miscounted", number);
    std::size_t queued = 0;
    for (std::size_t index = 0; index < kClasses; ++index) {
      const Flow& flow = tenant.flows[index];
      ensure(flow.running == sum.flows[index].running && flow.here == sum.flows[index].here, "a class's sequences miscounted", number);
      const auto& heap = flow.queue.elements();
      queued += heap.size();
      for (std::size_t place = 0; place < heap.size(); ++place) {
        ensure(heap[place]->queue_place == place, "in a queue and not at its place", heap[place]->slot);
        ensure(heap[place]->queued() && heap[place]->tenant == number, "in the wrong queue", heap[place]->slot);
        ensure(!Sooner{}(*heap[place], *heap[(place - (place > 0)) / 2]), "out of order", heap[place]->slot);
      }
    }
    ensure(queued == static_cast<std::size_t>(tenant.queued) && tenant.queued == sum.queued, "a queue miscounted", number);
  }
}

// Every sequence is free, or known to one front end; what has ended stands in line to tell so.
inline void Scheduler::check_front_ends() const {
  std::size_t known = 0, live = 0;
  for (std::uint32_t id = 0; id < kFrontEndsMax; ++id) {
    known += front_ends_[id].sequences.size();
    for (const auto& [key, sequence] : front_ends_[id].sequences) {
      ensure(key == FrontEnd::key(sequence->slot, sequence->generation), "known by another name", sequence->slot);
      ensure(sequence->front_end == id && sequence->state != State::kFree, "known and not there", sequence->slot);
      const bool finished = sequence->state == State::kFinished;
      live += !finished;
      ensure(finished == (sequence->finish != FinishReason::kNone), "ended without a reason", sequence->slot);
      ensure(sequence->outgoing || !(finished || sequence->has_untold()), "untold", sequence->slot);
    }
  }
  ensure(known + free_.size() == sequences_.size(), "sequences lost", static_cast<std::int64_t>(known));
  const Stats now = stats();
  ensure(live == static_cast<std::size_t>(now.waiting + now.running + now.paused), "neither here nor there",
         static_cast<std::int64_t>(live));
}

}  // namespace aruntime
