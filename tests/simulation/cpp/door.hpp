// The door of the simulated front ends: the product's own rule over the counts that front ends share of each replica.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <vector>

#include "admission/bucket.hpp"
#include "admission/verdict.hpp"
#include "ask.hpp"
#include "scenario.hpp"

namespace aruntime::simulation {

// Beyond admission::Refusal: the tenant's own budget, and more tokens than the replica or the tenant's cap has room for.
inline constexpr std::uint32_t kBudget = 6, kSize = 7;

// What the shared table says of one replica.
struct Counts {
  admission::Held all;
  std::vector<admission::Held> tenants;
  // Written by the engine after each step.
  admission::Pace pace;
  double waiting_weight = 0, drain_s = 0;

  std::int64_t load() const noexcept { return all.in_flight; }
};

class Door {
 public:
  explicit Door(const Scenario& scenario) : scenario_(scenario), buckets_(2 * scenario.tenants.size()) {
    const Engine& engine = scenario.engine;
    bounds_ = {.sequences_max = engine.limits.sequences_max, .waiting_max = engine.limits.waiting_max,
               .waiting_tokens_max = engine.waiting_tokens_max, .ttft_s = engine.ttft_s};
  }

  // 0, or why not: an admission::Refusal, kBudget or kSize. Writes the forecast into the ask's record.
  std::uint32_t judge(const Counts& counts, Ask& ask, double now_s) {
    if (!scenario_.run.admission) return 0;
    const std::uint32_t tenant = scenario_.run.hide_tenants ? 0 : ask.tenant;
    if (ask.prompt_tokens + ask.max_tokens > tokens_max(ask.tenant)) return kSize;
    admission::Standing standing;
    standing.all = counts.all;
    standing.tenant = counts.tenants[tenant];
    standing.shared = !scenario_.run.hide_tenants && scenario_.tenants.size() > 1;
    standing.drain_s = counts.drain_s;
    standing.rivals_weight = counts.waiting_weight;
    if (standing.tenant.queued > 0) standing.rivals_weight -= weight(tenant);
    standing.rivals_weight = std::max(0.0, standing.rivals_weight);
    admission::Request request;
    request.prompt_tokens = ask.prompt_tokens;
    request.priority = scenario_.run.hide_classes ? Priority::kStandard : ask.priority;
    request.weight = weight(tenant);
    if (!scenario_.run.hide_deadlines) request.left_s = ask.deadline_s - now_s;
    const auto verdict = admission::judge(bounds_, standing, counts.pace, calibration_.ratio(), request);
    ask.record.forecast_s = static_cast<float>(verdict.forecast.first_s);
    if (verdict.refusal != admission::Refusal::kNone) return static_cast<std::uint32_t>(verdict.refusal);
    return spend(ask, now_s) ? 0 : kBudget;
  }

  // A first token came: what was forecast for it teaches.
  void note(const Ask& ask, double now_s) {
    calibration_.note(static_cast<double>(ask.record.forecast_s), now_s - ask.record.arrived_s);
  }

  // Gives back what it was charged for and did not get.
  void settle(const Ask& ask) {
    if (!scenario_.run.admission) return;
    const double per_minute = scenario_.tenants[ask.tenant].tokens_per_minute;
    const std::int64_t charged = budget_ns(ask.prompt_tokens + ask.max_tokens, per_minute);
    admission::refund(buckets_[2 * ask.tenant + 1], charged - budget_ns(ask.prompt_tokens + ask.told, per_minute));
  }

 private:
  double weight(std::uint32_t tenant) const noexcept {
    return scenario_.run.hide_tenants ? 1.0 : scenario_.tenants[tenant].weight;
  }

  // A sequence must fit into the context, and into what its tenant may hold of the cache.
  std::int32_t tokens_max(std::uint32_t tenant) const noexcept {
    const Limits& limits = scenario_.engine.limits;
    const auto share = static_cast<std::int32_t>(limits.blocks * scenario_.tenants[tenant].cache_max);
    return std::min(limits.tokens_max(), share * limits.block_tokens);
  }

  bool spend(const Ask& ask, double now_s) {
    const TenantPlan& plan = scenario_.tenants[ask.tenant];
    const auto now_ns = static_cast<std::int64_t>(now_s * 1e9);
    const std::int64_t one = budget_ns(1, plan.requests_per_minute);
    if (admission::try_spend(buckets_[2 * ask.tenant], now_ns, one) > 0) return false;
    const std::int64_t all = budget_ns(ask.prompt_tokens + ask.max_tokens, plan.tokens_per_minute);
    if (admission::try_spend(buckets_[2 * ask.tenant + 1], now_ns, all) == 0) return true;
    admission::refund(buckets_[2 * ask.tenant], one);
    return false;
  }

  static std::int64_t budget_ns(std::int64_t amount, double per_minute) noexcept {
    return per_minute > 0 ? admission::cost_ns(amount, static_cast<std::int64_t>(per_minute)) : 0;
  }

  const Scenario& scenario_;
  admission::Bounds bounds_;
  admission::Calibration calibration_;
  std::deque<std::atomic<std::int64_t>> buckets_;  // requests, then tokens, of each tenant
};

}  // namespace aruntime::simulation
