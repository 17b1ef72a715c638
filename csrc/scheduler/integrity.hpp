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
  check_blocks();
  check_waiting();
  check_running();
  check_deadlines();
  check_front_ends();
}

// Every block is in exactly one place.
inline void Scheduler::check_blocks() const {
  std::vector<char> seen(static_cast<std::size_t>(limits_.blocks), 0);
  const auto see = [&](const std::vector<std::int32_t>& blocks) {
    for (const std::int32_t block : blocks) {
      ensure(are_tokens(&block, 1, limits_.blocks), "a block that does not exist", block);
      ensure(!seen[static_cast<std::size_t>(block)]++, "a block in two places", block);
    }
  };
  see(pool_.free_list());
  for (const Sequence& sequence : sequences_) {
    see(sequence.blocks);
    ensure(sequence.running() == (sequence.residence != 0), "a residence without running", sequence.slot);
    ensure(sequence.running() == !sequence.blocks.empty(), "blocks without running", sequence.slot);
  }
  for (std::size_t block = 0; block < seen.size(); ++block) {
    ensure(seen[block], "a block is lost", static_cast<std::int64_t>(block));
  }
}

inline void Scheduler::check_waiting() const {
  std::int64_t waiting = 0, tokens = 0;
  const Sequence* previous = nullptr;
  waiting_.each([&](const Sequence& sequence) {
    ensure(sequence.state == State::kWaiting, "in the queue and not waiting", sequence.slot);
    ensure(!previous || ArrivalOrder::before(*previous, sequence), "out of order in the queue", sequence.slot);
    previous = &sequence;
    ++waiting;
    tokens += sequence.size();
  });
  ensure(waiting == counted_.waiting, "waiting sequences miscounted", waiting);
  ensure(tokens == counted_.waiting_tokens, "waiting tokens miscounted", tokens);
  ensure(waiting < limits_.waiting_max + limits_.sequences_max + 1, "too many wait", waiting);
}

inline void Scheduler::check_running() const {
  for (std::size_t place = 0; place < decoding_.size(); ++place) {
    const Sequence& sequence = *decoding_[place];
    ensure(sequence.state == State::kDecoding, "listed and not decoding", sequence.slot);
    ensure(sequence.decoding_place == place, "not at its place", sequence.slot);
    ensure(sequence.computed + 1 == sequence.size(), "decoding with more than one token to go", sequence.slot);
  }
  for (std::size_t place = 0; place < prefilling_.size(); ++place) {
    const Sequence& sequence = *prefilling_[place];
    ensure(sequence.state == State::kPrefilling, "listed and not prefilling", sequence.slot);
    ensure(sequence.computed < sequence.size(), "nothing to prefill", sequence.slot);
    ensure(static_cast<std::int32_t>(sequence.blocks.size()) == limits_.blocks_for(sequence.size()),
           "taken up without its blocks", sequence.slot);
    ensure(place == 0 || ArrivalOrder::before(*prefilling_[place - 1], sequence), "out of order", sequence.slot);
  }
  ensure(stats().running <= limits_.sequences_max, "too many run", stats().running);
}

inline void Scheduler::check_deadlines() const {
  const std::vector<Sequence*>& heap = deadlines_.heap();
  for (std::size_t place = 0; place < heap.size(); ++place) {
    ensure(heap[place]->deadline_place == place, "a deadline not at its place", heap[place]->slot);
    ensure(heap[(place - (place > 0)) / 2]->deadline_s <= heap[place]->deadline_s, "no heap", heap[place]->slot);
    ensure(heap[place]->running() || heap[place]->state == State::kWaiting, "a dead deadline", heap[place]->slot);
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
      ensure(sequence->outgoing || !(finished || sequence->delivered < sequence->outputs()), "untold", sequence->slot);
    }
  }
  ensure(known + free_.size() == sequences_.size(), "sequences lost", static_cast<std::int64_t>(known));
  const Stats now = stats();
  ensure(live == static_cast<std::size_t>(now.waiting + now.running), "neither waiting nor running",
         static_cast<std::int64_t>(live));
}

}  // namespace aruntime
