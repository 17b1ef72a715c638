// The scheduler's second half: how a step is chosen and what it leaves behind. Part of scheduler.hpp.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

inline const StepPlan& Scheduler::plan(double now_s) {
  expire(now_s);
  plan_.clear();
  plan_decodes();
  plan_prefills();
  counted_.steps += plan_.tokens > 0;
  return plan_;
}

inline void Scheduler::plan_decodes() {
  // From the back: whoever is preempted is replaced in the list by one that has its block already. Who was looked at
  // may then be looked at again, which changes nothing.
  for (std::size_t left = decoding_.size(); left > 0; left = std::min(left - 1, decoding_.size())) {
    secure_block(*decoding_[left - 1]);
  }
  for (Sequence* sequence : decoding_) plan_.add(*sequence, 1);
  plan_.decodes = plan_.sequences;
}

// Makes room for the next token of `sequence`, at the cost of the last in order: itself, perhaps.
inline void Scheduler::secure_block(Sequence& sequence) {
  if (sequence.computed < static_cast<std::int32_t>(sequence.blocks.size()) * limits_.block_tokens) return;
  while (pool_.free() == 0) {
    Sequence& last = last_in_order();
    preempt(last);
    if (&last == &sequence) return;
  }
  pool_.take(1, sequence.blocks);
}

// Prompts in the order of service, whether taken up already or now, until the step is full.
inline void Scheduler::plan_prefills() {
  std::int32_t room = limits_.step_tokens_max - plan_.tokens;
  for (std::size_t at = 0; room > 0; ++at) {
    Sequence* next = waiting_.next();
    const bool taken_up = at < prefilling_.size();
    if (next && !(taken_up && ArrivalOrder::before(*prefilling_[at], *next)) && admit(*next)) {
      prefilling_.insert(prefilling_.begin() + static_cast<std::ptrdiff_t>(at), next);
    } else if (!taken_up) {
      break;
    }
    Sequence& sequence = *prefilling_[at];
    const std::int32_t chunk = std::min(room, sequence.size() - sequence.computed);
    plan_.add(sequence, chunk);
    room -= chunk;
  }
}

// Gives a waiting sequence the blocks of all its tokens. Returns false, and changes nothing, when it has to wait.
inline bool Scheduler::admit(Sequence& sequence) {
  const std::size_t running = decoding_.size() + prefilling_.size();
  if (running == static_cast<std::size_t>(limits_.sequences_max)) return false;
  const std::int32_t blocks = limits_.blocks_for(sequence.size());
  // A little stays free for those that decode, or the newcomer would soon be sent back (vLLM's watermark: 1 %).
  const std::int32_t spare = running > 0 ? pool_.blocks() / 64 : 0;
  if (pool_.free() < blocks + spare) return false;
  waiting_.leave(sequence);
  --counted_.waiting;
  counted_.waiting_tokens -= sequence.size();
  pool_.take(blocks, sequence.blocks);
  sequence.residence = ++admissions_;
  sequence.state = State::kPrefilling;
  return true;
}

// Takes a running sequence out of the running, and its blocks from it.
inline void Scheduler::vacate(Sequence& sequence) {
  if (sequence.state == State::kDecoding) {
    Sequence& moved = *decoding_.back();
    decoding_[sequence.decoding_place] = &moved;
    moved.decoding_place = sequence.decoding_place;
    decoding_.pop_back();
  } else {
    std::erase(prefilling_, &sequence);
  }
  pool_.give_back(sequence.blocks);
  sequence.residence = 0;
  sequence.computed = 0;
}

inline void Scheduler::preempt(Sequence& sequence) {
  vacate(sequence);
  sequence.state = State::kWaiting;
  waiting_.reenter(sequence);
  ++counted_.waiting;
  counted_.waiting_tokens += sequence.size();
  ++counted_.preemptions;
}

inline Sequence& Scheduler::last_in_order() const noexcept {
  Sequence* last = prefilling_.empty() ? decoding_.front() : prefilling_.back();
  for (Sequence* sequence : decoding_) {
    if (ArrivalOrder::before(*last, *sequence)) last = sequence;
  }
  return *last;
}

inline void Scheduler::commit(const std::int32_t* tokens, const float* logprobs, double now_s) {
  for (const Planned& row : plan_.planned) {
    Sequence& sequence = *row.sequence;
    if (sequence.residence != row.residence) continue;  // it ended while the step ran
    sequence.computed += row.tokens;
    if (row.sample_row < 0) continue;
    if (sequence.state == State::kPrefilling) start_decoding(sequence);
    accept(sequence, tokens[row.sample_row], logprobs ? logprobs[row.sample_row] : 0.0f);
  }
  plan_.planned.clear();
  expire(now_s);
}

inline void Scheduler::fail_step() {
  for (const Planned& row : plan_.planned) {
    if (row.sequence->residence == row.residence) finish(*row.sequence, FinishReason::kModelError);
  }
  plan_.planned.clear();
}

inline void Scheduler::start_decoding(Sequence& sequence) {
  std::erase(prefilling_, &sequence);
  sequence.decoding_place = static_cast<std::uint32_t>(decoding_.size());
  sequence.state = State::kDecoding;
  decoding_.push_back(&sequence);
}

// Takes one sampled token into a sequence, which may be its last.
inline void Scheduler::accept(Sequence& sequence, std::int32_t token, float logprob) {
  if (sequence.outputs() == 0) counted_.prompt_tokens += sequence.prompt_tokens;
  // A broken model must not put its numbers into the next step's embedding lookup.
  if (!are_tokens(&token, 1, limits_.vocab)) return finish(sequence, FinishReason::kModelError);
  if (sequence.stops_at(token)) return finish(sequence, FinishReason::kStop);
  sequence.append(token, logprob);
  ++counted_.output_tokens;
  front_ends_[sequence.front_end].tell(sequence);
  if (sequence.size() == sequence.tokens_max) finish(sequence, FinishReason::kLength);
}

}  // namespace aruntime
