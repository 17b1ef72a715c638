// Continuous batching: which tokens of which sequences the next step computes, and what comes of it.
//
//   submit, cancel, drop  ->  plan(now)  ->  the step runs  ->  commit(tokens, now)  ->  take_outputs
//
// A pure state machine: time is passed in, nothing is random, no memory is shared. A step holds every sequence that
// decodes, then prompts in chunks up to step_tokens_max, so that a long prompt never stalls a decode (Sarathi-Serve,
// OSDI 2024). A sequence is taken up when all its known tokens have blocks; when a decode finds none left, the last in
// the order of service gives its blocks back and is prefilled again later, with the tokens that it has said.
// The life of a sequence is drawn in sequence.hpp. Nothing allocates between submit and end.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "cache/block_pool.hpp"
#include "queue/records.hpp"
#include "scheduler/check.hpp"
#include "scheduler/deadlines.hpp"
#include "scheduler/front_end.hpp"
#include "scheduler/limits.hpp"
#include "scheduler/order.hpp"
#include "scheduler/sequence.hpp"
#include "scheduler/step_plan.hpp"
#include "scheduler/tenants.hpp"

namespace aruntime {

class Scheduler {
 public:
  // Throws std::invalid_argument, which names the limit that is wrong. `eos` are ids of end-of-sequence tokens.
  Scheduler(const Limits& limits, std::vector<std::int32_t> eos);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Lets a sequence wait for its turn. kNone: accepted. Else the reason, which its front end is told as an output too,
  // but for a second submit of a (slot, generation) that lives: its only answer is the living one's.
  FinishReason submit(std::uint32_t front_end, const SubmitHead& head, const std::int32_t* prompt);

  // Whether `front_end` has left so many refusals untaken that its submits must stay in its ring.
  bool backlogged(std::uint32_t front_end) const noexcept;

  // Ends a sequence with kCancelled. One that is unknown, or has ended, is none of our business any more.
  void cancel(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);

  // A paused sequence computes nothing; it keeps its blocks while nobody needs them.
  void pause(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);
  void resume(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);

  // Sets a tenant's terms, from now on. Throws std::invalid_argument, which names the term that is wrong.
  void set_tenant(std::uint32_t tenant, const TenantTerms& terms);

  // The front end is gone: so are its sequences, and nobody is told.
  void drop_front_end(std::uint32_t front_end);

  // From now on every submit is refused with kDraining. What waits or runs goes on.
  void drain() noexcept { draining_ = true; }

  // Chooses the tokens of the next step; none when nothing can run. Valid until the next plan.
  const StepPlan& plan(double now_s);
  const StepPlan& current_plan() const noexcept { return plan_; }

  // What the planned step sampled: one token, and its logprob unless null, a row of the plan's samples.
  void commit(const std::int32_t* tokens, const float* logprobs, double now_s);

  // The planned step broke: every sequence of it ends with kModelError.
  void fail_step();

  // Moves at most `max` records to `out`, in order for each sequence. Returns how many.
  std::uint32_t take_outputs(std::uint32_t front_end, OutputRecord* out, std::uint32_t max);

  Stats stats() const noexcept;
  const Limits& limits() const noexcept { return limits_; }
  double next_deadline_s() const noexcept { return deadlines_.next_s(); }

  // Throws std::logic_error when two of our books disagree. As slow as there are sequences and blocks: for idle moments.
  void check_integrity() const;

 private:
  FinishReason refusal(const FrontEnd& owner, const SubmitHead& head, const std::int32_t* prompt) const noexcept;
  Sequence& make();
  void recycle(Sequence& sequence);
  void retire(Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason);
  void expire(double now_s);

  bool admit(Sequence& sequence);
  void vacate(Sequence& sequence);
  void preempt(Sequence& sequence);
  Sequence& last_in_order() const noexcept;
  void secure_block(Sequence& sequence);
  void plan_decodes();
  void plan_prefills();
  void start_decoding(Sequence& sequence);
  void accept(Sequence& sequence, std::int32_t token, float logprob);

  void check_blocks() const;
  void check_waiting() const;
  void check_running() const;
  void check_deadlines() const;
  void check_front_ends() const;

  const Limits limits_;
  const std::vector<std::int32_t> eos_;
  bool draining_ = false;
  std::uint64_t submits_ = 0;
  std::uint64_t admissions_ = 0;
  Stats counted_;

  BlockPool pool_;
  ArrivalOrder waiting_;
  std::vector<Sequence*> decoding_;    // in no order, so that a row of the plan changes only when one leaves
  std::vector<Sequence*> prefilling_;  // in the order of service
  Deadlines deadlines_;
  StepPlan plan_;

  std::array<FrontEnd, kFrontEndsMax> front_ends_;
  std::array<TenantTerms, kTenantsMax> terms_;
  std::deque<Sequence> sequences_;  // as many as ever lived at once
  std::vector<Sequence*> free_;
};

}  // namespace aruntime

#include "scheduler/integrity.hpp"
#include "scheduler/lives.hpp"
#include "scheduler/steps.hpp"
