// One simulated front end: its door, and a place for every request that it has in flight.
#pragma once

#include <deque>
#include <vector>

#include "ask.hpp"
#include "door.hpp"

namespace aruntime::simulation {

struct FrontEndPlaces {
  FrontEndPlaces(const Scenario& scenario, std::uint32_t number)
      : number(number), door(scenario), own_since_signal(static_cast<std::size_t>(scenario.run.replicas), 0) {}

  // An empty place, under a name that was never used.
  Ask& take() {
    if (free_.empty()) {
      Ask& fresh = places.emplace_back();
      fresh.front_end = number;
      fresh.slot = static_cast<std::uint32_t>(places.size() - 1);
      free_.push_back(fresh.slot);
    }
    Ask& old = places[free_.back()];
    free_.pop_back();
    Ask ask;
    ask.live = true;
    ask.front_end = number;
    ask.slot = old.slot;
    ask.generation = old.generation + 1;
    return old = std::move(ask);
  }

  void release(Ask& ask) {
    ask.live = false;
    ask.tokens = {};
    ask.hashes = {};
    free_.push_back(ask.slot);
  }

  // The request of that name, if it has not ended.
  Ask* find(std::uint32_t slot, std::uint32_t generation) noexcept {
    if (slot >= places.size()) return nullptr;
    Ask& ask = places[slot];
    return ask.live && ask.generation == generation ? &ask : nullptr;
  }

  std::uint32_t number;
  Door door;
  std::deque<Ask> places;
  std::vector<std::int64_t> own_since_signal;  // requests sent to each replica since it last told its load

 private:
  std::vector<std::uint32_t> free_;
};

}  // namespace aruntime::simulation
