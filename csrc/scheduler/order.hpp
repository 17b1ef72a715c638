// Who is served next: the tenant that has had least for its weight, in it the class that has had least for its weight,
// in that whoever is due first.
//
//   tenants   by virtual time; before all others those below their reserved tokens a second
//   classes   interactive 16 : standard 4 : batch 1, so that a high class goes first and a low one is never starved
//   a class   by deadline; who has none is due kPatience_s after arriving
//
// A class is served out of its own tenant's share: no priority buys another tenant's service. Whoever comes back after
// having wanted nothing, or less than its share, starts behind the others by what it did not take, but not by more than all
// service of a second: so whoever asks for little is served at once beside one that floods, and nobody saves up for ever.
// Source: borrowed virtual time, Duda and Cheriton, SOSP 1999.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "scheduler/tenants.hpp"

namespace aruntime {

// What a token costs: one that is decoded takes about the machine of two that are prefilled (the weights of the VTC paper).
inline constexpr double kPrefillCost = 1.0, kDecodeCost = 2.0;
// A class's turn comes when it is behind by what so many tokens cost it: of classes that were idle the high one goes first.
inline constexpr double kTurnTokens = 256.0;
// How far behind a tenant can be when it comes back: all that is served in so long, within these bounds. In prefilled tokens.
inline constexpr double kSaved_s = 1.0, kSavedTokensMin = 1024.0, kSavedTokensMax = 65536.0;
// What is served in a second is what it was in about the last ones.
inline constexpr double kServiceMemory_s = 2.0;
// Reserved service that was not asked for is kept for so long.
inline constexpr double kCredit_s = 1.0;

class FairOrder {
 public:
  FairOrder() {
    for (auto* list : {&present_, &wanting_, &reserving_}) list->reserve(kTenantsMax);
  }

  Tenant& tenant(const Sequence& sequence) noexcept { return tenants_[sequence.tenant]; }
  Tenant& tenant(std::uint32_t number) { return tenants_.at(number); }
  const std::array<Tenant, kTenantsMax>& tenants() const noexcept { return tenants_; }
  // In no order: those that had a sequence here when the plan began or since, and those with something to prefill.
  const std::vector<std::uint32_t>& present() const noexcept { return present_; }
  const std::vector<std::uint32_t>& wanting() const noexcept { return wanting_; }
  // Of those present: what a share is a share of.
  double present_weight() const noexcept { return present_weight_; }

  void enter(Sequence& sequence) {
    Tenant& owner = tenant(sequence);
    if (owner.queued == 0) want(sequence.tenant, owner);
    ++owner.queued;
    Flow& flow = owner.flow(sequence);
    if (!flow.is_active()) flow.virtual_time = std::max(flow.virtual_time, least_active(owner));
    flow.queue.add(sequence);
  }

  void leave(Sequence& sequence) noexcept {
    Tenant& owner = tenant(sequence);
    owner.flow(sequence).queue.remove(sequence);
    if (--owner.queued > 0) return;
    last_ = owner.virtual_time;
    *std::find(wanting_.begin(), wanting_.end(), sequence.tenant) = wanting_.back();
    wanting_.pop_back();
  }

  // In this plan nobody is taken up any more.
  void close() noexcept {
    for (const std::uint32_t number : wanting_) tenants_[number].close();
  }

  // What a tenant could have when the last plan began before anybody else who wanted something, in prefilled tokens.
  double lead_tokens(std::uint32_t number) const noexcept {
    const Tenant& owner = tenants_[number];
    const double others = number == least_ ? second_time_ : least_time_;
    const double behind = std::clamp((others - owner.virtual_time) * owner.terms.weight, 0.0, saved_tokens());
    return behind + (is_owed(owner) ? owner.credit_tokens : 0.0);
  }

  // Whether a tenant has had less than what is reserved for it.
  static bool is_owed(const Tenant& owner) noexcept {
    return owner.terms.tokens_per_s_reserved > 0.0 && owner.credit_tokens > 0.0;
  }

  // When it is the turn of one of a tenant's classes, in virtual time.
  static double turn(const Tenant& owner, const Flow& flow) noexcept {
    return flow.virtual_time + kTurnTokens / kClassWeight[static_cast<std::size_t>(&flow - owner.flows.data())];
  }

  // Changes what `sequence`, which is queued, is ordered by.
  template <typename Change>
  void reorder(Sequence& sequence, Change change) {
    auto& queue = tenant(sequence).flow(sequence).queue;
    queue.remove(sequence);
    change();
    queue.add(sequence);
  }

  // The next to be served; null when there is none. A flow that is closed has none but those that hold blocks already.
  Sequence* next() noexcept {
    Tenant* first = nullptr;
    Sequence* found = nullptr;
    for (const std::uint32_t number : wanting_) {
      Tenant& owner = tenants_[number];
      Sequence* candidate = next_of(owner);
      if (candidate && (!found || is_before(owner, *candidate, *first, *found))) first = &owner, found = candidate;
    }
    return found;
  }

  // `tokens` of `sequence` are computed, at `cost` each.
  void charge(const Sequence& sequence, std::int32_t tokens, double cost) noexcept {
    Tenant& owner = tenant(sequence);
    served_ += tokens * cost;
    owner.virtual_time += tokens * cost / owner.terms.weight;
    owner.flow(sequence).virtual_time += tokens * cost / kClassWeight[static_cast<std::size_t>(sequence.priority)];
    owner.credit_tokens -= tokens;
    owner.served += tokens;
  }

  // Guaranteed to all tenants together, of `all` blocks.
  std::int64_t blocks_reserved(std::int32_t all) const noexcept {
    std::int64_t sum = 0;
    for (const std::uint32_t number : reserving_) sum += tenants_[number].blocks_reserved(all);
    return sum;
  }

  // A plan begins: reserved service has grown, and every tenant is open again.
  void begin(double now_s) noexcept {
    const double elapsed_s = std::clamp(now_s - now_s_, 0.0, kCredit_s);
    now_s_ = now_s;
    if (served_ > 0.0) {
      const double kept = std::exp(-elapsed_s / kServiceMemory_s);
      recent_served_ = recent_served_ * kept + std::exchange(served_, 0.0);
      recent_s_ = recent_s_ * kept + elapsed_s;
    }
    std::erase_if(present_, [&](std::uint32_t number) {
      Tenant& owner = tenants_[number];
      return !(owner.present = owner.queued + owner.running > 0);
    });
    present_weight_ = 0.0;
    for (const std::uint32_t number : present_) {
      Tenant& owner = tenants_[number];
      owner.open();
      present_weight_ += owner.terms.weight;
    }
    least_time_ = second_time_ = std::numeric_limits<double>::infinity();
    for (const std::uint32_t number : wanting_) {
      const double time = tenants_[number].virtual_time;
      if (time < least_time_) {
        second_time_ = std::exchange(least_time_, time);
        least_ = number;
      } else {
        second_time_ = std::min(second_time_, time);
      }
    }
    for (const std::uint32_t number : reserving_) {
      Tenant& owner = tenants_[number];
      const double rate = owner.terms.tokens_per_s_reserved;
      owner.credit_tokens = std::clamp(owner.credit_tokens + rate * elapsed_s, -rate * kCredit_s, rate * kCredit_s);
    }
  }

  void set_terms(std::uint32_t number, const TenantTerms& terms) {
    Tenant& owner = tenants_.at(number);
    owner.terms = terms;
    std::erase(reserving_, number);
    if (terms.tokens_per_s_reserved > 0.0 || terms.cache_reserved > 0.0) reserving_.push_back(number);
  }

 private:
  double saved_tokens() const noexcept {
    const double rate = recent_s_ > 0.0 ? recent_served_ / recent_s_ : 0.0;
    return std::clamp(rate * kSaved_s, kSavedTokensMin, kSavedTokensMax);
  }

  // A tenant that wanted nothing begins little behind those that do; if there is none, behind where the last of them left.
  void want(std::uint32_t number, Tenant& owner) {
    double start = wanting_.empty() ? last_ : tenants_[wanting_.front()].virtual_time;
    for (const std::uint32_t other : wanting_) start = std::min(start, tenants_[other].virtual_time);
    owner.virtual_time = std::max(owner.virtual_time, start - saved_tokens() / owner.terms.weight);
    owner.open();
    wanting_.push_back(number);
    if (owner.present) return;
    owner.present = true;
    present_.push_back(number);
    present_weight_ += owner.terms.weight;
  }

  static double least_active(const Tenant& owner) noexcept {
    double least = std::numeric_limits<double>::infinity();
    for (const Flow& flow : owner.flows) least = flow.is_active() ? std::min(least, flow.virtual_time) : least;
    return std::isfinite(least) ? least : 0.0;
  }

  static Sequence* next_of(const Tenant& owner) noexcept {
    const Flow* first = nullptr;
    for (const Flow& flow : owner.flows) {
      const Sequence* head = flow.queue.first();
      if (!head || (flow.closed && !head->resident())) continue;
      if (!first || turn(owner, flow) < turn(owner, *first)) first = &flow;
    }
    return first ? first->queue.first() : nullptr;
  }

  static bool is_before(const Tenant& one, const Sequence& its, const Tenant& other, const Sequence& others) noexcept {
    if (is_owed(one) != is_owed(other)) return is_owed(one);
    return one.virtual_time != other.virtual_time ? one.virtual_time < other.virtual_time : its.number < others.number;
  }

  std::array<Tenant, kTenantsMax> tenants_;
  std::vector<std::uint32_t> present_, wanting_, reserving_;
  double present_weight_ = 0.0;
  // Of those that wanted something when the last plan began: who was furthest behind, and the time of the next.
  std::uint32_t least_ = kTenantsMax;
  double least_time_ = std::numeric_limits<double>::infinity(), second_time_ = least_time_;
  double served_ = 0.0;                         // since the last plan, by cost
  double recent_served_ = 0.0, recent_s_ = 0.0;  // while anything was served; fading
  double last_ = 0.0;  // virtual time of the tenant that was the last to want nothing more
  double now_s_ = 0.0;
};

}  // namespace aruntime
