// A scenario that is drawn from a seed: small limits, so that everything runs out, and all that can go wrong goes wrong.
//
// Each seed leaves some of it out (swarm testing, Groce et al. 2012): what hides behind a flood is found without one.
#pragma once

#include "chance.hpp"
#include "scenario.hpp"

namespace aruntime::simulation {

inline Scenario chaos(std::uint64_t seed, std::int64_t steps) {
  Chance chance(mix(seed, 2));
  const auto real = [&](double low, double high) { return low + (high - low) * chance.unit(); };
  Scenario scenario;
  Run& run = scenario.run;
  run.seed = seed;
  run.steps = steps;
  run.duration_s = static_cast<double>(steps) * 0.01;  // where hardly anybody is let in, steps are rare
  run.front_ends = chance.between(1, 3);
  run.replicas = chance.happens(0.2) ? 2 : 1;
  run.admission = chance.happens(0.7);
  run.hasty = chance.happens(0.5);
  run.overlap = chance.happens(0.5);
  run.check_every = 16;
  run.sample_s = 1e6;
  run.front_end_life_s = chance.happens(0.5) ? real(2, 20) : kNever;
  run.engine_life_s = chance.happens(0.5) ? real(5, 40) : kNever;
  run.fail_share = chance.happens(0.5) ? real(0, 0.01) : 0;
  run.idle_reader_share = chance.happens(0.5) ? real(0, 0.8) : 0;
  run.unread_max = chance.between(1, 32);
  scenario.engine.ttft_s = real(0.01, 1);
  scenario.engine.waiting_tokens_max = chance.between(20, 4000);
  Limits& limits = scenario.engine.limits;
  limits.sequences_max = chance.between(2, 12);
  limits.step_tokens_max = limits.sequences_max + chance.between(0, 60);
  limits.waiting_max = chance.between(1, 40);
  limits.context_max = chance.between(40, 300);
  limits.block_tokens = 1 << chance.between(0, 4);
  limits.blocks = std::max(2, chance.between(200, 1500) / limits.block_tokens);
  limits.vocab = 500;
  limits.itl_s = chance.happens(0.5) ? real(1e-3, 4e-3) : kNever;
  scenario.step_time = {.base_s = 1e-3, .prefill_token_s = 1e-5, .decode_s = 5e-5, .context_token_s = 1e-7, .noise = 0.3};
  // About as many requests as such a replica can serve, shared out unevenly; sometimes one tenant asks for much more.
  const std::int32_t tenants = chance.between(1, 5);
  const bool promises = chance.happens(0.5);
  const double capacity_per_s = run.replicas * limits.sequences_max / (30 * 1.5e-3);
  const bool flood = chance.happens(0.3);
  for (std::int32_t i = 0; i < tenants; ++i) {
    TenantPlan& tenant = scenario.tenants.emplace_back();
    tenant.rate_per_s = flood && i == 0 ? capacity_per_s * real(2, 10) : capacity_per_s / tenants * real(0.1, 2);
    if (chance.happens(0.3)) {
      tenant.burst_factor = real(2, 10);
      tenant.burst_s = real(0.05, 2);
    }
    tenant.prompt_median = real(1, 60);
    tenant.prompt_max = chance.between(10, 320);  // some can never fit
    tenant.output_median = real(1, 30);
    tenant.output_max = chance.between(1, std::min(60, limits.tokens_max() / 3));
    tenant.system_tokens = chance.happens(0.5) ? chance.between(1, 80) : 0;
    tenant.turns = chance.happens(0.4) ? real(1, 4) : 1;
    tenant.think_s = real(0.01, 1);
    tenant.priority = chance.below(3);
    tenant.timeout_s = chance.happens(0.4) ? real(0.005, 0.5) : kNever;
    tenant.cancel_share = chance.happens(0.5) ? real(0, 0.5) : 0;
    tenant.cancel_after_s = real(0.001, 0.1);
    tenant.read_tokens_per_s = chance.happens(0.3) ? real(5, 200) : 0;
    tenant.weight = std::exp2(chance.between(-2, 3));
    tenant.prefix_group = chance.below(5);
    if (promises && chance.happens(0.5)) tenant.cache_reserved = real(0, 0.8 / tenants);
    if (chance.happens(0.3)) tenant.cache_max = real(std::max(0.15, tenant.cache_reserved), 0.8);
    if (promises && chance.happens(0.5)) tenant.tokens_per_s_reserved = real(0, 2000);
    if (chance.happens(0.2)) tenant.requests_per_minute = real(60, 6000);
    if (chance.happens(0.2)) tenant.tokens_per_minute = real(6000, 600000);
  }
  return scenario;
}

}  // namespace aruntime::simulation
