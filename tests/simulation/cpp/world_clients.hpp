// The world's first half: what clients do, and what their front ends make of it. Part of world.hpp.
#pragma once

#include "world.hpp"

namespace aruntime::simulation {

inline World::World(const Scenario& scenario, Fault fault)
    : scenario_(scenario), fault_(fault), chance_(mix(scenario.run.seed, 1)), prefilled_(scenario.tenants.size()),
      decoded_(scenario.tenants.size()), queued_(scenario.tenants.size()), books_(scenario.tenants.size()) {
  const Run& run = scenario_.run;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(run.front_ends); ++i) front_ends_.emplace_back(scenario_, i);
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(run.replicas); ++i) replicas_.emplace_back(scenario_, i);
  for (std::uint32_t i = 0; i < scenario_.tenants.size(); ++i) {
    const TenantPlan& plan = scenario_.tenants[i];
    if (plan.rate_per_s > 0) at(plan.start_s + chance_.exponential(1 / plan.rate_per_s), Kind::kArrive, i);
  }
  for (std::uint32_t i = 0; i < front_ends_.size(); ++i) at(life(run.front_end_life_s), Kind::kFrontEndDies, i);
  for (std::uint32_t i = 0; i < replicas_.size(); ++i) {
    set_tenants(replicas_[i]);
    at(life(run.engine_life_s), Kind::kEngineDies, i);
    if (run.signal_s > 0) at(run.signal_s * chance_.unit(), Kind::kSignal, i);
  }
  at(run.sample_s, Kind::kSample, 0);
}

inline void World::run() {
  while (!events_.empty() && steps_ < scenario_.run.steps && events_.top().at_s <= scenario_.run.duration_s) {
    const Event event = events_.top();
    events_.pop();
    now_s_ = event.at_s;
    handle(event);
  }
}

inline void World::handle(const Event& event) {
  switch (event.kind) {
    case Kind::kArrive: return arrive(event.who);
    case Kind::kFollowUp: return follow_up(event.turn);
    case Kind::kTurn:
      if (replicas_[event.who].turn == event.turn) turn(replicas_[event.who]);
      return;
    case Kind::kSignal:
      signal(replicas_[event.who]);
      return at(now_s_ + scenario_.run.signal_s, Kind::kSignal, event.who);
    case Kind::kFrontEndDies:
      front_end_dies(event.who);
      return at(life(scenario_.run.front_end_life_s), Kind::kFrontEndDies, event.who);
    case Kind::kEngineDies:
      engine_dies(replicas_[event.who]);
      return at(life(scenario_.run.engine_life_s), Kind::kEngineDies, event.who);
    case Kind::kSample:
      if (closing_) return;
      for (std::uint32_t i = 0; i < prefilled_.size(); ++i) {
        books_.service.push_back({now_s_, prefilled_[i], decoded_[i], i, queued_[i]});
      }
      return at(now_s_ + scenario_.run.sample_s, Kind::kSample, 0);
    case Kind::kLeave:
    case Kind::kExpire:
    case Kind::kRead:
      if (Ask* ask = front_ends_[event.who].find(event.slot, event.generation)) {
        if (event.kind == Kind::kRead) return read_on(*ask);
        ask->expired = event.kind == Kind::kExpire && !ask->cancelled;
        leave(*ask);
      }
  }
}

inline void World::arrive(std::uint32_t tenant) {
  const TenantPlan& plan = scenario_.tenants[tenant];
  if (closing_ || now_s_ > plan.until_s) return;
  const bool burst = plan.burst_s > 0 && std::fmod(now_s_, 2 * plan.burst_s) < plan.burst_s;
  at(now_s_ + chance_.exponential(1 / (plan.rate_per_s * (burst ? plan.burst_factor : 1.0))), Kind::kArrive, tenant);
  std::int32_t turns = 1;
  while (plan.turns > 1 && turns < 64 && chance_.happens(1 - 1 / plan.turns)) ++turns;
  ask({tenant, turns, ++sessions_, {}});
}

inline void World::follow_up(std::uint64_t session) {
  const auto found = conversations_.find(session);
  const Conversation conversation = std::move(found->second);
  conversations_.erase(found);
  if (!closing_) ask(conversation);
}

// A client asks; the door answers at once.
inline void World::ask(const Conversation& conversation) {
  const TenantPlan& plan = scenario_.tenants[conversation.tenant];
  FrontEndPlaces& front_end = front_ends_[chance_.below(static_cast<std::uint32_t>(front_ends_.size()))];
  Ask& ask = front_end.take();
  ask.tenant = conversation.tenant;
  ask.session = conversation.session;
  ask.turns_left = conversation.turns_left - 1;
  ask.priority = static_cast<Priority>(plan.priority);
  ask.deadline_s = now_s_ + plan.timeout_s;
  ask.wanted = std::clamp(static_cast<std::int32_t>(chance_.lognormal(plan.output_median, plan.output_sigma)), 1,
                          plan.output_max);
  ask.max_tokens = plan.output_max;
  write_prompt(ask, conversation);
  ask.replica = route(ask, front_end);
  Record& record = ask.record;
  record.arrived_s = now_s_;
  record.timeout_s = static_cast<float>(plan.timeout_s);
  record.tenant = ask.tenant;
  record.replica = ask.replica;
  record.prompt_tokens = static_cast<std::uint32_t>(ask.prompt_tokens);
  record.wanted = static_cast<std::uint32_t>(ask.wanted);
  Replica& replica = replicas_[ask.replica];
  record.refusal = front_end.door.judge(scenario_.run.signal_s > 0 ? replica.seen : replica.counts, ask, now_s_);
  if (record.refusal != 0) {
    record.end_s = 0;
    books_.add(record);
    ++ends_[kRefused];
    return front_end.release(ask);
  }
  for (admission::Held* held : {&replica.counts.all, &held(replica, ask.tenant)}) {
    ++held->in_flight;
    ++held->queued;
    held->queued_tokens += ask.prompt_tokens;
  }
  ++queued_[ask.tenant];
  ++front_end.own_since_signal[ask.replica];
  if (chance_.happens(plan.cancel_share)) {
    at(now_s_ + chance_.exponential(plan.cancel_after_s), Kind::kLeave, front_end.number, ask.slot, ask.generation);
  }
  at(ask.deadline_s, Kind::kExpire, front_end.number, ask.slot, ask.generation);
  send(ask, MessageKind::kSubmit);
}

// The system's prompt, what was said before, and something new.
inline void World::write_prompt(Ask& ask, const Conversation& conversation) {
  const TenantPlan& plan = scenario_.tenants[ask.tenant];
  const auto vocab = static_cast<std::uint32_t>(scenario_.engine.limits.vocab - kFirstToken);
  const auto drawn = std::clamp(static_cast<std::int32_t>(chance_.lognormal(plan.prompt_median, plan.prompt_sigma)), 1,
                                plan.prompt_max);
  ask.tokens = conversation.tokens;
  for (std::int32_t i = 0; conversation.tokens.empty() && i < plan.system_tokens; ++i) {
    const std::uint64_t word = mix(mix(ask.tenant, 77), static_cast<std::uint64_t>(i));
    ask.tokens.push_back(kFirstToken + static_cast<std::int32_t>(word % vocab));
  }
  for (std::int32_t i = 0; i < drawn; ++i) {
    ask.tokens.push_back(kFirstToken + static_cast<std::int32_t>(chance_.below(vocab)));
  }
  if (!scenario_.engine.prefix_cache) ask.tokens.front() = kFirstToken + static_cast<std::int32_t>(chance_.below(vocab));
  ask.prompt_tokens = static_cast<std::int32_t>(ask.tokens.size());
  const Limits& limits = scenario_.engine.limits;
  const auto share = std::max(1, static_cast<std::int32_t>(plan.cache_max * limits.blocks));
  ask.invalid = ask.prompt_tokens >= std::min(limits.tokens_max(), share * limits.block_tokens);
  if (scenario_.run.check_every == 0) return;
  std::uint64_t hash = root_of(plan.prefix_group);
  for (const std::int32_t token : ask.tokens) {
    ask.hashes.push_back(hash = mix(hash, static_cast<std::uint64_t>(token)));
  }
}

inline std::uint32_t World::route(const Ask& ask, FrontEndPlaces& front_end) {
  const auto count = static_cast<std::uint32_t>(replicas_.size());
  const bool own = scenario_.run.count_own;
  const auto load = [&](std::uint32_t i) { return replicas_[i].seen.load() + (own ? front_end.own_since_signal[i] : 0); };
  const auto less = [&](std::uint32_t one, std::uint32_t other) { return load(other) < load(one) ? other : one; };
  const auto two = [&] { return less(chance_.below(count), chance_.below(count)); };
  switch (static_cast<Routing>(scenario_.run.routing)) {
    case Routing::kRandom: return chance_.below(count);
    case Routing::kTwo: return two();
    case Routing::kSessions: {
      // A conversation has two homes; where both hold twice another's load, it goes there (hashing with bounded loads,
      // Mirrokni, Thorup, Zadimoghaddam 2018).
      const std::uint32_t home = less(static_cast<std::uint32_t>(mix(ask.session, 1) % count),
                                      static_cast<std::uint32_t>(mix(ask.session, 2) % count));
      const std::uint32_t other = two();
      return load(home) > 2 * load(other) + 2 ? other : home;
    }
    case Routing::kLeast: break;
  }
  std::uint32_t best = 0;
  for (std::uint32_t i = 1; i < count; ++i) best = less(best, i);
  return best;
}

// The client hangs up. Its slot is free again only when the engine says so.
inline void World::leave(Ask& ask) {
  if (ask.cancelled) return;
  ask.cancelled = true;
  send(ask, MessageKind::kCancel);
}

inline void World::take(Ask& ask, const OutputRecord& record) {
  must(record.index == static_cast<std::uint32_t>(ask.told), "a gap in the output", record.index, ask.told);
  must(record.token >= 0 || record.finish != FinishReason::kNone, "a record that says nothing", ask.slot);
  if (record.token >= 0) {
    const auto place = static_cast<std::size_t>(ask.prompt_tokens + ask.told);
    must(ask.told < ask.wanted, "a token after the stop", ask.slot, ask.told);
    must(place < ask.tokens.size() && ask.tokens[place] == record.token, "told what was not sampled", ask.slot, ask.told);
    if (ask.told++ == 0) {
      ask.record.first_s = static_cast<float>(now_s_ - ask.record.arrived_s);
      ask.record.cached_tokens = record.cached_tokens;
      must(record.cached_tokens < static_cast<std::uint32_t>(ask.prompt_tokens), "cached more than it may", ask.slot);
      count_first(ask);
      front_ends_[ask.front_end].door.note(ask, now_s_);
    } else {
      const double gap_s = now_s_ - ask.last_s;
      ask.gaps_s += gap_s;
      ask.record.gap_max_s = std::max(ask.record.gap_max_s, static_cast<float>(gap_s));
      books_.add_gap(ask.tenant, gap_s);
    }
    ask.last_s = now_s_;
    read_slowly(ask);
  }
  if (record.finish == FinishReason::kNone) return;
  check_end(ask, record.finish);
  come_again(ask);
  end(ask, static_cast<std::uint32_t>(ask.expired ? FinishReason::kDeadline : record.finish));
}

inline void World::read_slowly(Ask& ask) {
  const double rate = scenario_.tenants[ask.tenant].read_tokens_per_s;
  if (rate <= 0) return;
  ask.read_s = std::max(ask.read_s, now_s_) + 1 / rate;
  const double unread = (ask.read_s - now_s_) * rate;
  if (unread <= scenario_.run.unread_max || ask.paused) return;
  ask.paused = true;
  send(ask, MessageKind::kPause);
  at(ask.read_s, Kind::kRead, ask.front_end, ask.slot, ask.generation);
}

inline void World::read_on(Ask& ask) {
  if (!ask.paused) return;
  ask.paused = false;
  send(ask, MessageKind::kResume);
}

// An end must have its reason.
inline void World::check_end(const Ask& ask, FinishReason finish) const {
  const Limits& limits = scenario_.engine.limits;
  const auto share = std::max(1, static_cast<std::int32_t>(scenario_.tenants[ask.tenant].cache_max * limits.blocks));
  const std::int32_t room = std::min(limits.tokens_max(), share * limits.block_tokens) - ask.prompt_tokens;
  const std::int32_t length = std::min(ask.max_tokens, room);
  switch (finish) {
    case FinishReason::kStop: return must(ask.told == ask.wanted, "stopped too early", ask.told, ask.wanted);
    case FinishReason::kLength: return must(ask.told == length && ask.wanted >= length, "cut off", ask.told, length);
    case FinishReason::kCancelled: return must(ask.cancelled, "cancelled by nobody", ask.slot);
    case FinishReason::kDeadline: return must(ask.deadline_s < kNever, "a deadline that nobody set", ask.slot);
    case FinishReason::kModelError: return must(ask.broken, "a model's error without one", ask.slot);
    case FinishReason::kInvalid: return must(ask.invalid, "refused as invalid", ask.slot);
    case FinishReason::kOverloaded: return must(ask.told == 0, "overloaded after a token", ask.slot);
    case FinishReason::kDraining: return must(closing_ && ask.told == 0, "drained", ask.slot);
    case FinishReason::kGrammar: return must(false, "led astray by a grammar that it does not have", ask.slot);
    case FinishReason::kNone: return;
  }
}

// What is counted of it while its first token has not come.
inline void World::count_first(const Ask& ask) {
  Replica& replica = replicas_[ask.replica];
  for (admission::Held* held : {&replica.counts.all, &held(replica, ask.tenant)}) {
    --held->queued;
    held->queued_tokens -= ask.prompt_tokens;
  }
  --queued_[ask.tenant];
}

inline void World::end(Ask& ask, std::uint32_t finish) {
  Replica& replica = replicas_[ask.replica];
  if (ask.told == 0) count_first(ask);
  for (admission::Held* held : {&replica.counts.all, &held(replica, ask.tenant)}) {
    --held->in_flight;
    must(held->in_flight >= held->queued && held->queued >= 0 && held->queued_tokens >= 0, "counts below nothing");
  }
  if (ask.held) --replica.held;
  ask.record.end_s = static_cast<float>(now_s_ - ask.record.arrived_s);
  ask.record.told = static_cast<std::uint32_t>(ask.told);
  ask.record.gap_mean_s = static_cast<float>(ask.told > 1 ? ask.gaps_s / (ask.told - 1) : 0.0);
  ask.record.finish = finish;
  books_.add(ask.record);
  ++ends_[finish];
  front_ends_[ask.front_end].door.settle(ask);
  front_ends_[ask.front_end].release(ask);
}

inline void World::close_books() {
  for (FrontEndPlaces& front_end : front_ends_) {
    for (Ask& ask : front_end.places) {
      if (!ask.live) continue;
      ask.record.told = static_cast<std::uint32_t>(ask.told);
      books_.add(ask.record);
    }
  }
}

// The next request of a conversation begins with all that was said.
inline void World::come_again(const Ask& ask) {
  const TenantPlan& plan = scenario_.tenants[ask.tenant];
  if (ask.turns_left == 0 || ask.told != ask.wanted || ask.cancelled) return;
  const auto next_max = static_cast<std::int32_t>(ask.tokens.size()) + plan.prompt_max + plan.output_max;
  if (next_max >= scenario_.engine.limits.tokens_max()) return;
  const auto said = ask.tokens.begin() + ask.prompt_tokens + ask.told;
  conversations_[ask.session] = {ask.tenant, ask.turns_left, ask.session, {ask.tokens.begin(), said}};
  at(now_s_ + chance_.exponential(plan.think_s), Kind::kFollowUp, 0, 0, 0, ask.session);
}

inline void World::front_end_dies(std::uint32_t number) {
  FrontEndPlaces& front_end = front_ends_[number];
  for (Replica& replica : replicas_) {
    replica.letters[number].clear();
    replica.scheduler->drop_front_end(number);
  }
  for (Ask& ask : front_end.places) {
    if (ask.live) end(ask, kLost);
  }
}

}  // namespace aruntime::simulation
