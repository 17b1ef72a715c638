// How a step is chosen, and what it leaves behind. Part of scheduler.hpp.
#pragma once

#include "scheduler/scheduler.hpp"

namespace aruntime {

// Prompts get on however long decodes take: so many tokens, and as many as make the step twice as long.
inline constexpr std::int64_t kPrefillTokensMin = 16;
inline constexpr double kStretch = 2.0;
// So many are tried in one plan that cannot be taken up. Who comes after them has less of a claim than all of these.
inline constexpr int kTriesMax = 32;
// What is committed for a sequence whose grammar left nothing to sample.
inline constexpr std::int32_t kNoToken = -1;
// How fast sequences are taken up is what it was in about the last two seconds.
inline constexpr double kTakeUpMemory_s = 2.0;

inline const StepPlan& Scheduler::plan(double now_s) {
  if (under_way_ == kStepsUnderWay) throw std::logic_error("two steps are under way already");
  StepPlan& step = steps_[(oldest_ + under_way_) % kStepsUnderWay];
  expire(now_s);
  order_.begin(now_s);
  rejoin_followers();
  step.clear();
  if (full_) {
    const double elapsed_s = std::clamp(now_s - planned_s_, 0.0, kTakeUpMemory_s);
    const double kept = std::exp(-elapsed_s / kTakeUpMemory_s);
    full_s_ = full_s_ * kept + elapsed_s;
    taken_up_ *= kept;
  }
  planned_s_ = step.planned_s = now_s;
  secure_blocks();
  choose_prefills(now_s);
  add_decodes(step);
  add_prefills(step);
  counted_.steps += step.tokens > 0;
  under_way_ += step.tokens > 0;
  return step;
}

// Whether the next token of a sequence that decodes can be computed in the step that is being planned.
inline bool Scheduler::decodes_now(const Sequence& sequence) const noexcept {
  if (sequence.pending == 0) return true;
  // It ends with the token that is being sampled; or what it has said counts in what it may say next.
  return sequence.size() + sequence.pending < sequence.tokens_max && !sequence.looks_back;
}

// Makes sure that everyone who decodes has room for the token.
inline void Scheduler::secure_blocks() {
  decodes_ = {};
  // From the back: whoever yields is replaced in the list by one that has its block already. Who was looked at may then
  // be looked at again, which changes nothing.
  for (std::size_t left = decoding_.size(); left > 0; left = std::min(left - 1, decoding_.size())) {
    if (decodes_now(*decoding_[left - 1])) secure_block(*decoding_[left - 1]);
  }
  for (const Sequence* sequence : decoding_) {
    if (!decodes_now(*sequence)) continue;
    ++decodes_.decodes;
    decodes_.context_tokens += sequence->planned + 1;
  }
}

// Prompts in the order of service, whether taken up already or now, until the step is full. Whoever gives way to them
// has no row in the step yet.
inline void Scheduler::choose_prefills(double now_s) {
  std::int32_t room = prefill_room();
  chosen_.clear();
  full_ = false;
  bool no_blocks = false;
  int tries = 0;
  while (room > 0) {
    Sequence* next = order_.next();
    if (!next || (limits_.whole_prompts && next->size() > room)) break;
    if (!next->resident()) {
      // Whoever needs most is not overtaken for ever by those that need little: without blocks for him, there are none
      // for others, but for those that take back what was reserved for them.
      const TakeUp taken = take_up(*next, now_s, no_blocks);
      if (taken == TakeUp::kTenantFull) order_.tenant(*next).close();
      if (taken == TakeUp::kNoPlace || taken == TakeUp::kNoBlocks) order_.tenant(*next).flow(*next).closed = full_ = true;
      no_blocks = no_blocks || taken == TakeUp::kNoBlocks;
      if (taken != TakeUp::kDone && ++tries == kTriesMax) order_.close();
      if (taken != TakeUp::kDone) continue;
      taken_up_ += 1.0;
    }
    const std::int32_t chunk = std::min(room, next->size() - next->planned);
    const std::int32_t end = next->planned + chunk;
    order_.charge(*next, std::max(0, end - std::max(next->planned, next->charged)), kPrefillCost);
    next->charged = std::max(next->charged, end);
    next->chosen = true;
    chosen_.push_back({next, next->residence, chunk});
    room -= chunk;
    if (end < next->size()) break;
    order_.leave(*next);
    start_decoding(*next);
  }
}

inline void Scheduler::add_decodes(StepPlan& step) {
  for (Sequence* sequence : decoding_) {
    if (sequence->chosen || !decodes_now(*sequence)) continue;
    step.add(*sequence, 1);
    order_.charge(*sequence, 1, kDecodeCost);
  }
  step.decodes = step.sequences;
  step.work = decodes_;
}

inline void Scheduler::add_prefills(StepPlan& step) {
  for (const Chosen& chosen : chosen_) {
    if (chosen.sequence->residence != chosen.residence) continue;  // it yielded to somebody chosen later
    chosen.sequence->chosen = false;
    step.add(*chosen.sequence, chosen.tokens);
    step.work.prefill_tokens += chosen.tokens;
  }
}

// Tokens of prompts that this step takes: all that fit while nobody decodes, else what the objective allows.
inline std::int32_t Scheduler::prefill_room() const noexcept {
  const std::int64_t room = limits_.step_tokens_max - decodes_.decodes;
  if (decodes_.decodes == 0 || !pace_.known()) return static_cast<std::int32_t>(room);
  const double limit_s = std::max(limits_.itl_s, kStretch * pace_.seconds(decodes_));
  return static_cast<std::int32_t>(std::min(room, std::max(kPrefillTokensMin, pace_.prefill_room(decodes_, limit_s))));
}

inline void Scheduler::commit(const std::int32_t* tokens, const float* logprobs, double now_s, const Likelihoods& sampled,
                              const Likelihoods& scored) {
  if (under_way_ > 0) {
    StepPlan& step = steps_[oldest_];
    learn(step, now_s);
    for (const PlannedTelling& part : step.telling) tell_more(step, part, sampled, scored);
    for (const Planned& row : step.planned) {
      Sequence& sequence = *row.sequence;
      if (sequence.residence != row.residence) continue;  // it ended or yielded while the step ran
      sequence.computed += row.tokens;
      publish(sequence);
      if (row.sample_row < 0) {
        if (row.sample_row == kPooled) accept_vector(sequence);
        continue;
      }
      --sequence.pending;
      accept(sequence, tokens[row.sample_row], logprobs ? logprobs[row.sample_row] : 0.0f);
    }
    end_step();
  }
  expire(now_s);
}

inline void Scheduler::fail_step() {
  if (under_way_ == 0) return;
  for (const Planned& row : steps_[oldest_].planned) {
    if (row.sequence->residence == row.residence) finish(*row.sequence, FinishReason::kModelError);
  }
  end_step();
}

inline void Scheduler::end_step() noexcept {
  steps_[oldest_].planned.clear();
  oldest_ = (oldest_ + 1) % kStepsUnderWay;
  --under_way_;
}

// A step took from when it was planned, or the one before it ended, until now.
inline void Scheduler::learn(const StepPlan& step, double now_s) noexcept {
  pace_.learn(step.work, now_s - std::max(step.planned_s, committed_s_));
  committed_s_ = now_s;
}

inline void Scheduler::start_decoding(Sequence& sequence) {
  sequence.decoding_place = static_cast<std::uint32_t>(decoding_.size());
  sequence.state = State::kDecoding;
  decoding_.push_back(&sequence);
}

// Lets others find the blocks that are full and written.
inline void Scheduler::publish(Sequence& sequence) {
  const std::int32_t full = sequence.computed / limits_.block_tokens;
  if (full == sequence.published) return;
  if (full > sequence.announced) {
    pool_.extend(sequence.root, sequence.tokens.data(), full * limits_.block_tokens, sequence.prefixes);
    pool_.announce(sequence.blocks, sequence.announced, full, sequence.tokens.data(), sequence.prefixes,
                   sequence.prefix);
    sequence.announced = full;
  }
  pool_.publish(sequence.blocks, sequence.published, full);
  sequence.published = full;
}

// Takes one sampled token into a sequence, which may be its last.
inline void Scheduler::accept(Sequence& sequence, std::int32_t token, float logprob) {
  if (sequence.outputs() == 0) count_prompt(sequence);
  // A broken model must not put its numbers into the next step's embedding lookup.
  if (!are_tokens(&token, 1, limits_.vocab)) {
    const bool astray = sequence.guided && token == kNoToken;
    return finish(sequence, astray ? FinishReason::kGrammar : FinishReason::kModelError);
  }
  if (sequence.stops_at(token)) return finish_by_itself(sequence, FinishReason::kStop);
  sequence.append(token, logprob);
  ++counted_.output_tokens;
  --counted_.tokens_left;
  front_ends_[sequence.front_end].tell(sequence);
  if (sequence.size() == sequence.tokens_max) finish_by_itself(sequence, FinishReason::kLength);
}

// Takes in what a step has found beside the tokens that it samples: of the rows of a sequence's prompt, and alternatives
// to its next output, which are told if that comes to be one.
inline void Scheduler::tell_more(const StepPlan& step, const PlannedTelling& part, const Likelihoods& sampled,
                                 const Likelihoods& scored) {
  const Planned& row = step.planned[static_cast<std::size_t>(part.part)];
  Sequence& sequence = *row.sequence;
  if (sequence.residence != row.residence) return;
  Telling& telling = *sequence.telling;
  if (part.scored > 0 && scored.logprob) {
    telling.score(&sequence.tokens[static_cast<std::size_t>(telling.scored + 1)], part.scored, scored, part.scored_row);
    front_ends_[sequence.front_end].tell(sequence);
  }
  if (part.likely_row >= 0) telling.add_alternatives_to(sequence.outputs(), sampled, part.likely_row);
}

// The vector of a sequence is made, which is all that it was here for.
inline void Scheduler::accept_vector(Sequence& sequence) {
  count_prompt(sequence);
  finish_by_itself(sequence, FinishReason::kLength);
}

inline void Scheduler::count_prompt(const Sequence& sequence) noexcept {
  counted_.prompt_tokens += sequence.prompt_tokens;
  counted_.cached_tokens += sequence.cached_tokens;
}

inline void Scheduler::finish_by_itself(Sequence& sequence, FinishReason reason) {
  outputs_mean_ += (sequence.outputs() - outputs_mean_) / 32.0;
  finish(sequence, reason);
}

}  // namespace aruntime
