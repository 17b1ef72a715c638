// What each tenant is owed, what it holds, and what it has had.
//
// Service is counted in virtual time: tokens by their cost, divided by the weight. Who has had least is served next, so
// over any stretch in which two tenants both want service, what they get differs by no more than a constant.
// Source: the virtual token counter, Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024; reservations
// before weights as in mClock, Gulati et al., OSDI 2010.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "queue/records.hpp"
#include "scheduler/heap.hpp"
#include "scheduler/sequence.hpp"

namespace aruntime {

inline constexpr std::size_t kClasses = 3;  // by Priority

// A tenant of whom nobody has said anything has a share like everybody's, no reservation, no cap.
struct TenantTerms {
  double weight = 1.0;                 // share of service among those who want it
  double cache_max = 1.0;              // the most of the blocks that it may hold, as a share of them
  double cache_reserved = 0.0;         // what it can always have back, as a share of the blocks
  double tokens_per_s_reserved = 0.0;  // service that it gets before anybody else gets more
  std::uint32_t prefix_group = 0;      // tenants of one group share cached prefixes

  // Throws std::invalid_argument, which names the term that is wrong.
  void check() const {
    require(weight > 0.0 && weight <= 1e6, "weight", weight);
    require(cache_max > 0.0 && cache_max <= 1.0, "cache_max", cache_max);
    require(cache_reserved >= 0.0 && cache_reserved <= cache_max, "cache_reserved (at most cache_max)", cache_reserved);
    require(tokens_per_s_reserved >= 0.0 && std::isfinite(tokens_per_s_reserved), "tokens_per_s_reserved",
            tokens_per_s_reserved);
  }

 private:
  static void require(bool holds, const char* name, double value) {
    if (!holds) throw std::invalid_argument(std::string(name) + " cannot be " + std::to_string(value));
  }
};

// Who has blocks already goes on; then whoever is due first; then whoever came first.
struct Sooner {
  bool operator()(const Sequence& one, const Sequence& other) const noexcept {
    if (one.resident() != other.resident()) return one.resident();
    return one.due_s != other.due_s ? one.due_s < other.due_s : one.number < other.number;
  }
};

// The sequences of one class of a tenant.
struct Flow {
  Heap<Sequence, &Sequence::queue_place, Sooner> queue;  // those that have something to prefill
  double virtual_time = 0.0;
  std::int32_t here = 0;  // its sequences that have not ended
  std::int32_t running = 0;
  bool closed = false;  // in this plan none of its sequences is taken up any more

  bool is_active() const noexcept { return running > 0 || !queue.empty(); }
};

struct Tenant {
  TenantTerms terms;
  double virtual_time = 0.0;
  double credit_tokens = 0.0;  // of its reserved service, saved up for at most a second
  std::array<Flow, kClasses> flows;
  // Of its sequences: with something to prefill; without blocks for it; in the steps; paused.
  std::int32_t queued = 0, waiting = 0, running = 0, paused = 0;
  std::int64_t blocks = 0;  // held by its sequences; one that several share is counted for whoever took it up first
  std::int64_t served = 0;  // tokens computed since the start
  bool present = false;     // in the order's list of those that have a sequence here

  void open() noexcept {
    for (Flow& flow : flows) flow.closed = false;
  }
  void close() noexcept {
    for (Flow& flow : flows) flow.closed = true;
  }
  Flow& flow(const Sequence& sequence) noexcept { return flows[static_cast<std::size_t>(sequence.priority)]; }
  std::int64_t here() const noexcept { return waiting + running + paused; }
  std::int64_t blocks_max(std::int32_t all) const noexcept {
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(terms.cache_max * all));
  }
  std::int64_t blocks_reserved(std::int32_t all) const noexcept {
    return static_cast<std::int64_t>(terms.cache_reserved * all);
  }
};

}  // namespace aruntime
