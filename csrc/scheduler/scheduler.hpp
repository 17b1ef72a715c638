// Continuous batching: which tokens of which sequences the next step computes, and what comes of it.
//
//   submit, cancel, pause, resume, drop  ->  plan(now)  ->  the step runs  ->  commit(tokens, now)  ->  take_outputs
//
// A pure state machine: time is passed in, nothing is random, no memory is shared. A step holds every sequence that
// decodes, then prompts in chunks, as many tokens as the objective for the time between two tokens allows, so that a long
// prompt never stalls a decode (Sarathi-Serve, OSDI 2024). Who is prefilled next is the order's word (order.hpp), who
// gives way the yielding's (yields.hpp). A sequence is taken up when all its known tokens have blocks; those whose content
// is there already it shares; what somebody else is computing just now it waits for. One that gives its blocks back is
// prefilled again later, with the tokens that it has said; what is still in the cache then is not computed again.
//
// A second plan may be made while the first step runs. It computes the token that the first is sampling before anybody
// knows it: the plan says in which row of the step before it stands. Nothing allocates between submit and end.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "admission/verdict.hpp"
#include "cache/block_pool.hpp"
#include "queue/records.hpp"
#include "scheduler/check.hpp"
#include "scheduler/front_end.hpp"
#include "scheduler/guidance.hpp"
#include "scheduler/limits.hpp"
#include "scheduler/order.hpp"
#include "scheduler/pace.hpp"
#include "scheduler/sequence.hpp"
#include "scheduler/step_plan.hpp"
#include "scheduler/tenants.hpp"

namespace aruntime {

// Whose a sequence is, and what its front end calls it.
struct Owner {
  std::uint32_t front_end, slot, generation;
};

class Scheduler {
 public:
  // Steps that are planned and not committed, at most.
  static constexpr std::size_t kStepsUnderWay = 2;

  // Throws std::invalid_argument, which names the limit that is wrong. `eos` are ids of end-of-sequence tokens.
  Scheduler(const Limits& limits, std::vector<std::int32_t> eos);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Sets what may change of the limits, from now on; what waits already stays. Throws as the constructor does.
  void set_bounds(std::int32_t waiting_max, double itl_s);

  // Sets a tenant's terms, from now on. Throws std::invalid_argument, which names the term that is wrong.
  void set_tenant(std::uint32_t tenant, const TenantTerms& terms);

  // Lets a sequence wait for its turn. kNone: accepted. Else the reason, which its front end is told as an output too,
  // but for a second submit of a (slot, generation) that lives: its only answer is the living one's.
  // `payload` holds head.payload_bytes, which are what head.steering says. A sequence with a grammar is held, as a paused
  // one is, until it is released.
  FinishReason submit(std::uint32_t front_end, const SubmitHead& head, const std::int32_t* prompt,
                      const std::byte* payload = nullptr);

  // The grammar of a held sequence is ready: it waits for its turn. Or it is no good: the sequence ends with kGrammar.
  void release(const Owner& owner, bool good);

  // Sequences with a grammar that have ended since this was last asked.
  std::vector<Owner> take_guided_ended() { return std::exchange(guided_ended_, {}); }

  // Whether `front_end` has left so many refusals untaken that its submits must stay in its ring.
  bool backlogged(std::uint32_t front_end) const noexcept;

  // These three do nothing to a sequence that is unknown or has ended: it is none of our business any more.
  // Ends it with kCancelled.
  void cancel(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);
  // Computes nothing more of it until it is resumed. It keeps its blocks while nobody needs them.
  void pause(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);
  void resume(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation);

  // The front end is gone: so are its sequences, and nobody is told.
  void drop_front_end(std::uint32_t front_end);

  // From now on every submit is refused with kDraining. What waits or runs goes on.
  void drain() noexcept { draining_ = true; }

  // Chooses the tokens of the next step; none when nothing can run. Valid until its step is committed and another is
  // planned. Throws std::logic_error when too many steps are under way.
  const StepPlan& plan(double now_s);
  // The step that the next commit is about, if one is under way.
  const StepPlan& oldest() const noexcept { return steps_[oldest_]; }
  // The memory that plans are written into, by turns.
  const StepPlan& step(std::size_t place) const noexcept { return steps_[place]; }
  std::size_t place(const StepPlan& plan) const noexcept { return static_cast<std::size_t>(&plan - steps_.data()); }

  // What the oldest step under way sampled: one token, and its logprob unless null, a row of the plan's samples; what is
  // likely at the plan's likely rows; and of its scored rows, unless their logprobs are null.
  void commit(const std::int32_t* tokens, const float* logprobs, double now_s, const Likelihoods& sampled = {},
              const Likelihoods& scored = {});

  // The oldest step under way broke: every sequence of it ends with kModelError.
  void fail_step();

  // Moves at most `max` records to `out`, in order for each sequence. Returns how many.
  std::uint32_t take_outputs(std::uint32_t front_end, OutputRecord* out, std::uint32_t max);
  bool has_outputs(std::uint32_t front_end) const noexcept { return front_ends_[front_end].has_outputs(); }

  Stats stats() const noexcept;
  const Limits& limits() const noexcept { return limits_; }
  const Tenant& tenant(std::uint32_t number) const noexcept { return order_.tenants()[number]; }
  double lead_tokens(std::uint32_t tenant) const noexcept { return order_.lead_tokens(tenant); }
  // All tenants that were ever named are below this.
  std::uint32_t tenants_end() const noexcept { return tenants_end_; }
  double next_deadline_s() const noexcept;

  // Throws std::logic_error when two of our books disagree. As slow as there are sequences and blocks: for idle moments.
  void check_integrity() const;

 private:
  // What came of trying to give a waiting sequence its blocks.
  enum class TakeUp : std::uint8_t { kDone, kFollows, kHopeless, kNoPlace, kNoBlocks, kTenantFull };
  // Who may have to yield: anybody; sequences of the same tenant; those of tenants beyond what is reserved for them.
  enum class Yield : std::uint8_t { kAnybody, kOwnTenant, kBorrowers };
  // A part of a prompt; it holds only while `residence` is the sequence's.
  struct Chosen {
    Sequence* sequence;
    std::uint64_t residence;
    std::int32_t tokens;
  };
  struct Earlier {
    bool operator()(const Sequence& one, const Sequence& other) const noexcept {
      return one.deadline_s < other.deadline_s;
    }
  };

  // lives.hpp
  FinishReason refusal(const FrontEnd& owner, const SubmitHead& head, const std::int32_t* prompt) noexcept;
  Sequence* find(std::uint32_t front_end, std::uint32_t slot, std::uint32_t generation) noexcept;
  Sequence& make();
  void recycle(Sequence& sequence);
  void wait(Sequence& sequence);
  void rest(Sequence& sequence) noexcept;
  void stop_waiting(Sequence& sequence);
  void count_waiting(Sequence& sequence);
  void uncount_waiting(Sequence& sequence) noexcept;
  void retire(Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason);
  void finish_by_itself(Sequence& sequence, FinishReason reason);
  void expire(double now_s);

  // steps.hpp
  void secure_blocks();
  void choose_prefills(double now_s);
  void add_decodes(StepPlan& step);
  void add_prefills(StepPlan& step);
  bool decodes_now(const Sequence& sequence) const noexcept;
  std::int32_t prefill_room() const noexcept;
  void start_decoding(Sequence& sequence);
  void publish(Sequence& sequence);
  void accept(Sequence& sequence, std::int32_t token, float logprob);
  void tell_more(const StepPlan& step, const PlannedTelling& part, const Likelihoods& sampled, const Likelihoods& scored);
  void accept_vector(Sequence& sequence);
  void count_prompt(const Sequence& sequence) noexcept;
  void end_step() noexcept;
  void learn(const StepPlan& step, double now_s) noexcept;

  // stats.hpp
  void forecast(Stats& now) const noexcept;

  // take_up.hpp
  void rejoin_followers();
  TakeUp take_up(Sequence& sequence, double now_s, bool no_blocks);
  void settle(Sequence& sequence, std::int32_t fresh);
  bool is_hopeless(const Sequence& sequence, std::int32_t tokens, double now_s) const noexcept;
  void start_running(Sequence& sequence) noexcept;

  // yields.hpp
  void share(Sequence& sequence);
  void hold(Sequence& sequence, std::int32_t blocks);
  void vacate(Sequence& sequence);
  void stop_running(Sequence& sequence) noexcept;
  void preempt(Sequence& sequence);
  template <typename Wanted>
  void clear_paused(const Sequence& sequence, Yield who, Wanted wanted);
  bool has_room(std::int32_t blocks, const Sequence* out) const noexcept;
  bool can_reclaim(const Sequence& sequence, std::int32_t blocks) const noexcept;
  bool yields_before(const Sequence& one, const Sequence& other) const noexcept;
  Sequence* first_to_yield(const Sequence& to, Yield who) noexcept;
  Sequence* gives_place_to(const Sequence& sequence) noexcept;
  void secure_block(Sequence& sequence);

  void check_blocks() const;
  void check_waiting() const;
  void check_running() const;
  void check_deadlines() const;
  void check_front_ends() const;
  void check_tenants() const;

  Limits limits_;
  const std::vector<std::int32_t> eos_;
  bool draining_ = false;
  std::uint32_t tenants_end_ = 1;
  std::uint64_t submits_ = 0;
  std::uint64_t residences_ = 0;
  double outputs_mean_ = 0.0;  // of the sequences that ended by themselves
  Stats counted_;

  BlockPool pool_;
  std::vector<std::uint16_t> block_tenant_;  // who took a block up first
  Match match_;
  FairOrder order_;
  Pace pace_;
  List<Sequence, &Sequence::waiting_link> waiting_;  // in the order of arrival, those that were preempted first
  std::vector<Sequence*> followers_;                 // of the waiting: each awaits a block that somebody computes
  std::vector<Sequence*> decoding_;  // in no order, so that a row of the plan changes only when one leaves
  StepWork decodes_;                 // of the last plan
  std::vector<Chosen> chosen_;       // for the step that is being planned
  List<Sequence, &Sequence::resident_link> residents_;
  std::vector<std::int32_t> pool_places_;  // those that are free, of as many as there may be in a step
  Heap<Sequence, &Sequence::deadline_place, Earlier> deadlines_;

  std::array<StepPlan, kStepsUnderWay> steps_;
  std::size_t oldest_ = 0, under_way_ = 0;
  bool full_ = false;           // the last plan left somebody waiting for a place or for blocks
  double planned_s_ = 0.0;      // when the last plan was made
  double committed_s_ = 0.0;    // when the last step ended
  double taken_up_ = 0.0, full_s_ = 0.0;  // sequences taken up while full, and for how long; fading

  std::array<FrontEnd, kFrontEndsMax> front_ends_;
  std::deque<Sequence> sequences_;  // as many as ever lived at once
  std::vector<Sequence*> free_;
  std::vector<Owner> guided_ended_;
};

}  // namespace aruntime

#include "scheduler/integrity.hpp"
#include "scheduler/lives.hpp"
#include "scheduler/stats.hpp"
#include "scheduler/steps.hpp"
#include "scheduler/take_up.hpp"
#include "scheduler/yields.hpp"
