// One simulated engine: the product's scheduler, the letters that wait in its submit rings, and the step that runs.
//
//   turn: [commit the step that ran, deliver] -> receive letters -> plan -> the step runs for as long as the model says
//
// Where a run says so, one step more is planned while one runs, as on a device that computes beside the host.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "door.hpp"
#include "model.hpp"
#include "scheduler/scheduler.hpp"

namespace aruntime::simulation {

struct Letter {
  MessageKind kind;
  std::uint32_t slot, generation;
};

// One row of a step under way.
struct Row {
  std::uint32_t front_end, slot, generation, tenant;
  std::int32_t tokens, sample_row;
  bool decodes;
};

// A step that is planned and not committed.
struct Step {
  std::vector<Row> rows;
  std::vector<std::int32_t> tokens;  // what it samples
  double ends_s = 0;
};

// How far two tenants' service may drift apart while one of them waits: see World::check_fairness.
struct Waiting {
  bool waits = false;
  std::vector<double> served_before;  // by tenant, when this one began to wait
};

struct Replica {
  Replica(const Scenario& scenario, std::uint32_t number)
      : number(number), letters(static_cast<std::size_t>(scenario.run.front_ends)), counts(make_counts(scenario)),
        seen(counts), served(scenario.tenants.size(), 0.0), waiting(scenario.tenants.size()) {
    begin(scenario);
  }

  // A new engine with nothing in it; what the old one held is gone.
  void begin(const Scenario& scenario) {
    scheduler = std::make_unique<Scheduler>(scenario.engine.limits, std::vector<std::int32_t>{kEos});
    if (scenario.run.check_every > 0) shadow = std::make_unique<Shadow>(scenario.engine.limits);
    for (auto& queue : letters) queue.clear();
    steps.clear();
    waiting.assign(scenario.tenants.size(), {});
    held = 0;
    ++turn;
  }

  static Counts make_counts(const Scenario& scenario) {
    Counts counts;
    counts.tenants.resize(scenario.tenants.size());
    return counts;
  }

  std::uint32_t number;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<Shadow> shadow;
  std::vector<std::deque<Letter>> letters;  // by front end
  std::deque<Step> steps;  // under way, the oldest first
  bool asleep = true;
  bool unread = false;  // a front end did not look at its outputs
  std::uint64_t turn = 0;  // the number of the turn that is due; an older one was overtaken
  std::int32_t held = 0;   // sequences that the scheduler was told to pause
  Counts counts, seen;     // what front ends count, and what they know of it
  std::vector<double> served;  // cost of the tokens computed for each tenant, what is computed again left out
  std::vector<Waiting> waiting;
};

}  // namespace aruntime::simulation
