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
      replica.scheduler->pause(front_end, letter.slot, letter.generation);
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
  ask.received = true;
  ask.received_s = now_s_;
}

inline void World::turn(Replica& replica) {
  if (replica.running) commit(replica);
  deliver(replica);
  if (scenario_.run.signal_s == 0) signal(replica);
  for (std::uint32_t front_end = 0; front_end < front_ends_.size(); ++front_end) receive(replica, front_end);
  plan(replica);
}

inline void World::plan(Replica& replica) {
  const StepPlan& plan = replica.scheduler->plan(now_s_);
  if (plan.tokens == 0) {
    const Stats stats = replica.scheduler->stats();
    must(stats.waiting + stats.running == 0 || replica.held > 0, "idle with work to do", stats.waiting, stats.running);
    replica.asleep = true;
    // What a front end has not read yet, it reads a little later.
    const double rest_s = replica.unread ? now_s_ + 1e-3 : replica.scheduler->next_deadline_s();
    return at(rest_s, Kind::kTurn, replica.number, 0, 0, ++replica.turn);
  }
  check_plan(replica, plan);
  replica.running = true;
  at(now_s_ + seconds(scenario_.step_time, plan, chance_), Kind::kTurn, replica.number, 0, 0, ++replica.turn);
}

// Looks at every row, runs it in the shadow, and notes what `commit` needs.
inline void World::check_plan(Replica& replica, const StepPlan& plan) {
  const Limits& limits = scenario_.engine.limits;
  must(plan.tokens <= limits.step_tokens_max && plan.sequences <= limits.sequences_max, "too large a step", plan.tokens,
       plan.sequences);
  replica.rows.clear();
  replica.tokens.assign(static_cast<std::size_t>(plan.samples), kEos);
  for (std::int32_t row = 0; row < plan.sequences; ++row) {
    const Planned& planned = plan.planned[static_cast<std::size_t>(row)];
    const Sequence& sequence = *planned.sequence;
    Ask* ask = front_ends_.at(sequence.front_end).find(sequence.slot, sequence.generation);
    must(ask && ask->replica == replica.number, "a step for a request that ended", sequence.slot);
    must(!ask->held, "a paused sequence computes", sequence.slot);
    const std::int32_t context = plan.context_len[static_cast<std::size_t>(row)];
    must((planned.sample_row >= 0) == (context == static_cast<std::int32_t>(ask->tokens.size())), "sampled too early",
         context, planned.sample_row);
    const std::uint64_t hash = replica.shadow ? replica.shadow->run(plan, row, *ask) : mix(ask->session, ask->tokens.size());
    const std::int32_t said = planned.sample_row < 0 ? kEos : next_token(*ask, hash, limits.vocab);
    if (planned.sample_row >= 0) replica.tokens[static_cast<std::size_t>(planned.sample_row)] = said;
    replica.rows.push_back({ask->front_end, ask->slot, ask->generation, ask->tenant, planned.tokens, context,
                            planned.sample_row, said});
    if (replica.shadow && strikes(Fault::kForgetWrite)) replica.shadow->forget(plan.slot_mapping[0]);
  }
  check_tenants(replica, plan);
}

// No tenant's sequences hold more blocks than its cap.
inline void World::check_tenants(const Replica& replica, const StepPlan& plan) {
  if (!replica.shadow) return;
  const Limits& limits = scenario_.engine.limits;
  std::vector<std::set<std::int32_t>> blocks(scenario_.tenants.size());
  for (std::size_t row = 0; row < replica.rows.size(); ++row) {
    const std::int32_t* table = &plan.block_tables[row * static_cast<std::size_t>(plan.table_stride)];
    blocks[replica.rows[row].tenant].insert(table, table + limits.blocks_for(replica.rows[row].context));
  }
  for (std::size_t tenant = 0; tenant < blocks.size(); ++tenant) {
    const double cap = scenario_.tenants[tenant].cache_max * limits.blocks;
    must(static_cast<double>(blocks[tenant].size()) <= std::max(1.0, cap), "more blocks than the tenant's cap",
         static_cast<std::int64_t>(tenant), static_cast<std::int64_t>(blocks[tenant].size()));
  }
}

inline void World::commit(Replica& replica) {
  replica.running = false;
  ++steps_;
  const bool may_fail = scenario_.run.fail_share > 0;
  const bool fails = may_fail && chance_.happens(scenario_.run.fail_share);
  if (strikes(Fault::kSwapTokens) && replica.tokens.size() > 1) std::swap(replica.tokens[0], replica.tokens[1]);
  for (const Row& row : replica.rows) {
    const bool decodes = row.tokens == 1 && row.sample_row >= 0;
    (decodes ? decoded_ : prefilled_)[row.tenant] += row.tokens;
    Ask* ask = find(row);
    if (!ask) continue;  // it ended while the step ran
    const bool senseless = may_fail && row.sample_row >= 0 && chance_.happens(scenario_.run.fail_share / 10);
    if (senseless) replica.tokens[static_cast<std::size_t>(row.sample_row)] = -1;  // a model that gives no number
    ask->broken = ask->broken || fails || senseless;
    if (ask->broken || row.said == kEos) continue;
    ask->tokens.push_back(row.said);
    if (replica.shadow) ask->hashes.push_back(mix(ask->hashes.back(), static_cast<std::uint64_t>(row.said)));
  }
  if (fails) {
    replica.scheduler->fail_step();
  } else {
    replica.scheduler->commit(replica.tokens.data(), nullptr, now_s_);
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
  wake(replica);
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
