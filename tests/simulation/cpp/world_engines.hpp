// The world's second half: what engines do, and what must hold of every step. Part of world.hpp.
#pragma once

#include "world.hpp"

namespace aruntime::simulation {

inline void World::send(const Ask& ask, MessageKind kind) {
  Replica& replica = replicas_[ask.replica];
  replica.letters[ask.front_end].push_back({kind, ask.slot, ask.generation});
  if (scenario_.run.hasty && chance_.happens(0.5)) receive(replica, ask.front_end);
  if (replica.asleep) wake(replica);
}

inline void World::wake(Replica& replica) {
  replica.asleep = false;
  at(now_s_, Kind::kTurn, replica.number, 0, 0, ++replica.turn);
}

inline void World::receive(Replica& replica, std::uint32_t front_end) {
  auto& letters = replica.letters[front_end];
  while (!letters.empty() && !replica.scheduler->backlogged(front_end)) {
    const Letter letter = letters.front();
    letters.pop_front();
    Ask* ask = front_ends_[front_end].find(letter.slot, letter.generation);
    if (letter.kind == MessageKind::kCancel) {
      replica.scheduler->cancel(front_end, letter.slot, letter.generation);
    } else if (letter.kind == MessageKind::kSubmit) {
      must(ask != nullptr, "a submit of a request that ended", letter.slot);
      submit(replica, *ask);
      continue;
    } else if (letter.kind == MessageKind::kPause) {
      if (!strikes(Fault::kLosePause)) replica.scheduler->pause(front_end, letter.slot, letter.generation);
    } else {
      replica.scheduler->resume(front_end, letter.slot, letter.generation);
    }
    const bool held = letter.kind == MessageKind::kPause;
    if (!ask || letter.kind == MessageKind::kCancel || ask->held == held) continue;
    ask->held = held;
    replica.held += held ? 1 : -1;
  }
}

inline void World::submit(Replica& replica, Ask& ask) {
  const Run& run = scenario_.run;
  SubmitHead head;
  head.slot = ask.slot;
  head.generation = ask.generation;
  head.arrived_s = ask.record.arrived_s;
  head.deadline_s = run.hide_deadlines ? kNever : ask.deadline_s;
  head.prompt_tokens = static_cast<std::uint32_t>(ask.prompt_tokens);
  head.max_tokens = static_cast<std::uint32_t>(ask.max_tokens);
  head.tenant = run.hide_tenants ? 0 : ask.tenant;
  head.priority = run.hide_classes ? Priority::kStandard : ask.priority;
  const FinishReason answer = replica.scheduler->submit(ask.front_end, head, ask.tokens.data());
  must((answer == FinishReason::kInvalid) == ask.invalid, "a submit judged wrongly", ask.slot);
  if (answer == FinishReason::kNone && scenario_.run.hasty && chance_.happens(0.01)) {  // a front end that says it twice
    must(replica.scheduler->submit(ask.front_end, head, ask.tokens.data()) == FinishReason::kInvalid, "taken twice");
  }
}

inline void World::turn(Replica& replica) {
  if (!replica.steps.empty()) commit(replica);
  deliver(replica);
  if (scenario_.run.signal_s == 0) signal(replica);
  for (std::uint32_t front_end = 0; front_end < front_ends_.size(); ++front_end) receive(replica, front_end);
  const std::size_t steps_max = scenario_.run.overlap ? 2 : 1;
  while (replica.steps.size() < steps_max && plan(replica)) continue;
  if (replica.steps.empty()) return rest(replica);
  at(replica.steps.front().ends_s, Kind::kTurn, replica.number, 0, 0, ++replica.turn);
}

// Sleeps until the next deadline or a letter. What ended since the last delivery is told first; what a front end did not
// look at, it looks at a little later.
inline void World::rest(Replica& replica) {
  const Stats stats = replica.scheduler->stats();
  must(stats.waiting + stats.running == 0, "idle with work to do", stats.waiting, stats.running);
  replica.asleep = true;
  at(replica.scheduler->next_deadline_s(), Kind::kTurn, replica.number, 0, 0, ++replica.turn);
  deliver(replica);
  if (replica.unread && replica.asleep) at(now_s_ + 1e-3, Kind::kTurn, replica.number, 0, 0, ++replica.turn);
}

// Plans a step behind those under way. False: there is nothing to compute.
inline bool World::plan(Replica& replica) {
  const StepPlan& plan = replica.scheduler->plan(now_s_);
  if (plan.tokens == 0) return false;
  Step step;
  run_step(replica, plan, step);
  const double begins_s = replica.steps.empty() ? now_s_ : replica.steps.back().ends_s;
  step.ends_s = begins_s + seconds(scenario_.step_time, plan, chance_);
  replica.steps.push_back(std::move(step));
  return true;
}

// Looks at every row of the plan and computes what it will say. Steps run in the order of their plans, so the shadow may
// be written now.
inline void World::run_step(Replica& replica, const StepPlan& plan, Step& step) {
  const Limits& limits = scenario_.engine.limits;
  must(plan.tokens <= limits.step_tokens_max && plan.sequences <= limits.sequences_max, "too large a step", plan.tokens,
       plan.sequences);
  step.tokens.assign(static_cast<std::size_t>(plan.samples), kEos);
  for (std::int32_t row = 0; row < plan.sequences; ++row) {
    const Planned& planned = plan.planned[static_cast<std::size_t>(row)];
    const Sequence& sequence = *planned.sequence;
    Ask* ask = front_ends_.at(sequence.front_end).find(sequence.slot, sequence.generation);
    must(ask && ask->replica == replica.number, "a step for a request that ended", sequence.slot);
    must(!ask->held, "a paused sequence computes", sequence.slot);
    sample(replica, plan, row, *ask, step);
    step.rows.push_back({ask->front_end, ask->slot, ask->generation, ask->tenant, planned.tokens, planned.sample_row,
                         row < plan.decodes});
    charge(replica, *ask, plan.context_len[static_cast<std::size_t>(row)], step.rows.back());
  }
  if (replica.shadow && strikes(Fault::kForgetWrite)) replica.shadow->forget(plan.slot_mapping[0]);
  if (scenario_.run.check_every == 0) return;
  check_caps(plan, step);
  check_fairness(replica);
}

inline void World::sample(Replica& replica, const StepPlan& plan, std::int32_t row, Ask& ask, Step& step) {
  const auto at = static_cast<std::size_t>(row);
  const std::int32_t context = plan.context_len[at], sample_row = plan.planned[at].sample_row;
  if (row < plan.decodes && plan.token_source[at] >= 0) {
    must(!replica.steps.empty(), "a token of a step that is not under way", row);
    const std::int32_t said = replica.steps.back().tokens.at(static_cast<std::size_t>(plan.token_source[at]));
    must(said == ask.tokens[static_cast<std::size_t>(context - 1)], "another row's token", row, plan.token_source[at]);
  }
  const std::uint64_t hash = replica.shadow ? replica.shadow->run(plan, row, ask)
                                            : mix(ask.session, static_cast<std::uint64_t>(context));
  if (sample_row < 0) return;
  must(context >= ask.prompt_tokens, "sampled within the prompt", context, ask.prompt_tokens);
  const std::int32_t said = next_token(ask, context, hash, scenario_.engine.limits.vocab);
  step.tokens[static_cast<std::size_t>(sample_row)] = said;
  if (context < static_cast<std::int32_t>(ask.tokens.size())) return;  // sampled before, and lost
  ask.tokens.push_back(said);
  if (replica.shadow) ask.hashes.push_back(mix(ask.hashes.back(), static_cast<std::uint64_t>(said)));
}

// What the tenant has had, as the scheduler charges for it: not for what is computed again.
inline void World::charge(Replica& replica, Ask& ask, std::int32_t context, const Row& row) {
  const std::int32_t fresh = std::max(0, context - std::max(context - row.tokens, ask.charged));
  ask.charged = std::max(ask.charged, context);
  (row.decodes ? decoded_ : prefilled_)[row.tenant] += fresh;
  replica.served[row.tenant] += row.decodes ? kDecodeCost * row.tokens : kPrefillCost * fresh;
}

// No tenant's sequences hold more blocks than its cap. Only of tenants that share with nobody else: a block that two
// tenants use counts for one of them.
inline void World::check_caps(const StepPlan& plan, const Step& step) {
  const Limits& limits = scenario_.engine.limits;
  std::vector<std::set<std::int32_t>> blocks(scenario_.tenants.size());
  for (std::size_t row = 0; row < step.rows.size(); ++row) {
    const std::int32_t* table = &plan.block_tables[row * static_cast<std::size_t>(plan.table_stride)];
    blocks[step.rows[row].tenant].insert(table, table + limits.blocks_for(plan.context_len[row]));
  }
  for (std::uint32_t tenant = 0; tenant < blocks.size(); ++tenant) {
    const TenantPlan& own = scenario_.tenants[tenant];
    const auto sharers = std::count_if(scenario_.tenants.begin(), scenario_.tenants.end(), [&](const TenantPlan& other) {
      return other.prefix_group == own.prefix_group;
    });
    if (sharers > 1) continue;
    const double cap = std::max(1.0, own.cache_max * limits.blocks);
    must(static_cast<double>(blocks[tenant].size()) <= cap, "more blocks than the tenant's cap", tenant,
         static_cast<std::int64_t>(blocks[tenant].size()));
  }
}

// While a tenant waits, nobody gets more than it does, for their weights, but by a constant: what has its blocks already
// may be prefilled and run to its end, a step is not cut, and who comes back has something saved (the bound of the virtual
// token counter, Sheng et al. 2024; so no wait is without bound). It is not promised to who is capped, nor where somebody has reservations: they come first.
inline void World::check_fairness(Replica& replica) {
  const Limits& limits = scenario_.engine.limits;
  std::int32_t output_max = 0;
  for (const TenantPlan& plan : scenario_.tenants) {
    if (plan.tokens_per_s_reserved > 0 || plan.cache_reserved > 0) return;
    output_max = std::max(output_max, plan.output_max);
  }
  const std::int64_t prompts = std::min(std::int64_t{limits.blocks} * limits.block_tokens,
                                        std::int64_t{limits.sequences_max} * limits.tokens_max());
  const double constant = static_cast<double>(limits.step_tokens_max + prompts) +
                          kDecodeCost * limits.sequences_max * output_max;
  for (std::uint32_t number = 0; number < replica.waiting.size(); ++number) {
    const Tenant& tenant = replica.scheduler->tenant(number);
    Waiting& waiting = replica.waiting[number];
    const bool before = waiting.waits;
    waiting.waits = tenant.waiting > 0 && tenant.queued > 0 && scenario_.tenants[number].cache_max >= 1;
    if (!waiting.waits) continue;
    if (!before) waiting.served_before = replica.served;
    const double weight = scenario_.tenants[number].weight;
    const double own = (replica.served[number] - waiting.served_before[number]) / weight;
    for (std::uint32_t other = 0; other < replica.waiting.size(); ++other) {
      const double others_weight = scenario_.tenants[other].weight;
      const double others = (replica.served[other] - waiting.served_before[other]) / others_weight;
      const double bound = constant / weight + (constant + kSavedTokensMax) / others_weight;
      must(others - own <= bound, "a tenant was left behind", number, static_cast<std::int64_t>(others - own));
    }
  }
}

inline void World::commit(Replica& replica) {
  Step step = std::move(replica.steps.front());
  replica.steps.pop_front();
  ++steps_;
  const double share = scenario_.run.fail_share;
  const bool fails = share > 0 && chance_.happens(share);
  if (strikes(Fault::kSwapTokens) && step.tokens.size() > 1) std::swap(step.tokens[0], step.tokens[1]);
  for (const Row& row : step.rows) {
    Ask* ask = find(row);
    if (!ask) continue;  // it ended while the step ran
    const bool senseless = share > 0 && row.sample_row >= 0 && chance_.happens(share / 10);
    if (senseless) step.tokens[static_cast<std::size_t>(row.sample_row)] = -1;  // a model that gives no number
    ask->broken = ask->broken || fails || senseless;
  }
  if (fails) {
    replica.scheduler->fail_step();
  } else {
    replica.scheduler->commit(step.tokens.data(), nullptr, now_s_);
  }
  if (scenario_.run.check_every > 0 && steps_ % scenario_.run.check_every == 0) replica.scheduler->check_integrity();
}

inline void World::deliver(Replica& replica) {
  replica.unread = false;
  for (std::uint32_t number = 0; number < front_ends_.size(); ++number) {
    if (!closing_ && scenario_.run.idle_reader_share > 0 && chance_.happens(scenario_.run.idle_reader_share)) {
      replica.unread = true;
      continue;
    }
    FrontEndPlaces& front_end = front_ends_[number];
    for (;;) {
      const auto max = static_cast<std::uint32_t>(outputs_.size());
      const std::uint32_t count = replica.scheduler->take_outputs(number, outputs_.data(), max);
      for (std::uint32_t i = 0; i < count; ++i) {
        if (strikes(Fault::kLoseRecord)) continue;
        const int times = strikes(Fault::kRepeatRecord) ? 2 : 1;
        for (int time = 0; time < times; ++time) {
          Ask* ask = front_end.find(outputs_[i].slot, outputs_[i].generation);
          must(ask != nullptr, "told after its end", outputs_[i].slot, outputs_[i].generation);
          take(*ask, outputs_[i]);
        }
      }
      if (count < max) break;
    }
  }
}

inline void World::signal(Replica& replica) {
  const Stats stats = replica.scheduler->stats();
  replica.counts.pace = {.step_s = stats.step_s, .prefill_tokens_per_s = stats.prefill_tokens_per_s,
                         .take_up_s = stats.take_up_s};
  replica.counts.waiting_weight = stats.waiting_weight;
  replica.counts.drain_s = stats.drain_s;
  replica.counts.lead_tokens.clear();
  for (std::uint32_t tenant = 0; tenant < scenario_.tenants.size(); ++tenant) {
    replica.counts.lead_tokens.push_back(static_cast<std::int64_t>(replica.scheduler->lead_tokens(tenant)));
  }
  replica.seen = replica.counts;
  for (FrontEndPlaces& front_end : front_ends_) front_end.own_since_signal[replica.number] = 0;
}

inline void World::engine_dies(Replica& replica) {
  preemptions_ += replica.scheduler->stats().preemptions;
  for (FrontEndPlaces& front_end : front_ends_) {
    for (Ask& ask : front_end.places) {
      if (ask.live && ask.replica == replica.number) end(ask, kLost);
    }
  }
  replica.begin(scenario_);
  set_tenants(replica);
  wake(replica);
}

inline void World::set_tenants(Replica& replica) {
  for (std::uint32_t number = 0; number < scenario_.tenants.size(); ++number) {
    const TenantPlan& plan = scenario_.tenants[number];
    replica.scheduler->set_tenant(
        number, {.weight = fault_ == Fault::kFavourOne && number == 0 ? 1e6 : plan.weight,
                 .cache_max = fault_ == Fault::kLiftCaps ? 1.0 : plan.cache_max,
                 .cache_reserved = plan.cache_reserved,
                 .tokens_per_s_reserved = plan.tokens_per_s_reserved,
                 .prefix_group = plan.prefix_group});
  }
}

inline std::int64_t World::preemptions() const {
  std::int64_t count = preemptions_;
  for (const Replica& replica : replicas_) count += replica.scheduler->stats().preemptions;
  return count;
}

inline void World::settle() {
  closing_ = true;
  for (FrontEndPlaces& front_end : front_ends_) {
    for (Ask& ask : front_end.places) {
      if (ask.live) read_on(ask);
    }
  }
  const auto busy = [&] {
    return std::any_of(front_ends_.begin(), front_ends_.end(), [](const FrontEndPlaces& front_end) {
      return std::any_of(front_end.places.begin(), front_end.places.end(), [](const Ask& ask) { return ask.live; });
    });
  };
  const std::int64_t bound = steps_ + 1'000'000;
  while (busy()) {
    must(!events_.empty() && steps_ < bound, "requests that never end", steps_);
    const Event event = events_.top();
    events_.pop();
    now_s_ = event.at_s;
    if (event.kind != Kind::kFrontEndDies && event.kind != Kind::kEngineDies) handle(event);
  }
  for (Replica& replica : replicas_) {
    replica.scheduler->check_integrity();
    const Stats stats = replica.scheduler->stats();
    must(stats.blocks_free == stats.blocks_total, "blocks that never came back", stats.blocks_free, stats.blocks_total);
    must(stats.waiting + stats.running + stats.undelivered == 0, "somebody is left", stats.waiting, stats.running);
    must(replica.counts.all.in_flight == 0, "counted as in flight", replica.counts.all.in_flight);
  }
}

}  // namespace aruntime::simulation
