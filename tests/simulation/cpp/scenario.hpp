// What is simulated, as plain numbers: the replicas, the time of their steps, the tenants and what goes wrong.
//
// Read from text, one thing a line, `name=value` after its kind; a name that is not known is refused:
//
//   run seed=7 duration_s=60
//   engine sequences_max=256 blocks=20000
//   step_time base_s=0.004 prefill_token_s=2e-5
//   tenant rate_per_s=3 priority=0 timeout_s=5
#pragma once

#include <cstdint>
#include <istream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "queue/records.hpp"
#include "scheduler/limits.hpp"

namespace aruntime::simulation {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

// How long a step takes: base + prefill tokens + decoding sequences + tokens of context read, with noise.
struct StepTime {
  double base_s = 4e-3;
  double prefill_token_s = 2e-5;
  double decode_s = 2e-5;
  double context_token_s = 2e-8;
  double noise = 0.02;  // sigma of the logarithm

  template <typename Visit>
  void each(Visit&& visit) {
    visit("base_s", base_s);
    visit("prefill_token_s", prefill_token_s);
    visit("decode_s", decode_s);
    visit("context_token_s", context_token_s);
    visit("noise", noise);
  }
};

// A replica's limits, and the objective for the first token that its door keeps the queue short for.
struct Engine {
  Limits limits{.sequences_max = 64, .step_tokens_max = 512, .waiting_max = 256, .context_max = 4096,
                .block_tokens = 16, .blocks = 4096, .vocab = 32000};
  std::int64_t waiting_tokens_max = 1 << 20;
  double ttft_s = 2;
  std::int32_t prefix_cache = 1;  // 0: every prompt begins in its own way, so none shares a prefix

  template <typename Visit>
  void each(Visit&& visit) {
    visit("sequences_max", limits.sequences_max);
    visit("step_tokens_max", limits.step_tokens_max);
    visit("waiting_max", limits.waiting_max);
    visit("context_max", limits.context_max);
    visit("block_tokens", limits.block_tokens);
    visit("blocks", limits.blocks);
    visit("vocab", limits.vocab);
    visit("waiting_tokens_max", waiting_tokens_max);
    visit("ttft_s", ttft_s);
    visit("itl_s", limits.itl_s);
    visit("prefix_cache", prefix_cache);
  }
};

// One tenant: how its requests come, what they ask, what it was promised.
struct TenantPlan {
  double rate_per_s = 1;  // Poisson
  double start_s = 0, until_s = kNever;
  double burst_factor = 1, burst_s = 0;  // in bursts of burst_s, half of the time, the rate is that many times higher
  double prompt_median = 200, prompt_sigma = 0.8, output_median = 100, output_sigma = 0.7;
  std::int32_t prompt_max = 2000, output_max = 500;  // output_max is what it asks for; the model ends earlier
  std::int32_t system_tokens = 0;                    // every prompt begins with the same so many
  double turns = 1, think_s = 5;                     // mean requests of a conversation, mean time between them
  std::uint32_t priority = 1;
  double timeout_s = kNever;                    // from arrival to deadline, when it leaves
  double cancel_share = 0, cancel_after_s = 1;  // that many leave, after a mean time
  double read_tokens_per_s = 0;                // of a reader that is slow; 0: it is not
  double weight = 1, cache_max = 1, cache_reserved = 0, tokens_per_s_reserved = 0;
  std::uint32_t prefix_group = 0;
  double requests_per_minute = 0, tokens_per_minute = 0;  // its budgets; 0: none

  template <typename Visit>
  void each(Visit&& visit) {
    visit("rate_per_s", rate_per_s);
    visit("start_s", start_s);
    visit("until_s", until_s);
    visit("burst_factor", burst_factor);
    visit("burst_s", burst_s);
    visit("prompt_median", prompt_median);
    visit("prompt_sigma", prompt_sigma);
    visit("prompt_max", prompt_max);
    visit("output_median", output_median);
    visit("output_sigma", output_sigma);
    visit("output_max", output_max);
    visit("system_tokens", system_tokens);
    visit("turns", turns);
    visit("think_s", think_s);
    visit("priority", priority);
    visit("timeout_s", timeout_s);
    visit("cancel_share", cancel_share);
    visit("cancel_after_s", cancel_after_s);
    visit("read_tokens_per_s", read_tokens_per_s);
    visit("weight", weight);
    visit("cache_max", cache_max);
    visit("cache_reserved", cache_reserved);
    visit("tokens_per_s_reserved", tokens_per_s_reserved);
    visit("prefix_group", prefix_group);
    visit("requests_per_minute", requests_per_minute);
    visit("tokens_per_minute", tokens_per_minute);
  }
};

// How a front end chooses among replicas.
enum class Routing : std::int32_t { kRandom = 0, kLeast = 1, kTwo = 2, kSessions = 3 };

struct Run {
  std::uint64_t seed = 1;
  double duration_s = 60;
  std::int64_t steps = std::numeric_limits<std::int64_t>::max();  // it ends with whichever comes first
  std::int32_t front_ends = 1, replicas = 1;
  std::int32_t admission = 1;   // 0: the engine's own bounds only
  std::int32_t hide_deadlines = 0, hide_classes = 0, hide_tenants = 0;  // from door and scheduler; the books know them
  std::int32_t routing = 1, count_own = 0;  // count_own: what a front end sent since the last signal counts as load
  double signal_s = 0;          // how often replicas tell their load; 0: after every step
  double sample_s = 1;          // how often the service of each tenant is noted
  double front_end_life_s = kNever, engine_life_s = kNever;  // mean, until it dies
  double fail_share = 0;        // of the steps, that break
  double idle_reader_share = 0;  // of the turns, in which a front end does not read its outputs
  std::int32_t unread_max = 256;  // tokens that a front end holds for a slow reader before it pauses the sequence
  std::int32_t overlap = 0;       // the next step is planned while one runs
  std::int32_t hasty = 0;         // messages also reach the scheduler while its step runs
  std::int32_t check_every = 0;  // steps between two checks of all books; 0: never, and no shadow of the cache

  template <typename Visit>
  void each(Visit&& visit) {
    visit("seed", seed);
    visit("duration_s", duration_s);
    visit("steps", steps);
    visit("front_ends", front_ends);
    visit("replicas", replicas);
    visit("admission", admission);
    visit("hide_deadlines", hide_deadlines);
    visit("hide_classes", hide_classes);
    visit("hide_tenants", hide_tenants);
    visit("routing", routing);
    visit("count_own", count_own);
    visit("signal_s", signal_s);
    visit("sample_s", sample_s);
    visit("front_end_life_s", front_end_life_s);
    visit("engine_life_s", engine_life_s);
    visit("fail_share", fail_share);
    visit("idle_reader_share", idle_reader_share);
    visit("unread_max", unread_max);
    visit("overlap", overlap);
    visit("hasty", hasty);
    visit("check_every", check_every);
  }
};

struct Scenario {
  Run run;
  Engine engine;
  StepTime step_time;
  std::vector<TenantPlan> tenants;

  // Throws std::invalid_argument, which quotes what is not understood.
  static Scenario read(std::istream& text) {
    Scenario scenario;
    for (std::string line; std::getline(text, line);) {
      std::istringstream words(line);
      std::string kind;
      words >> kind;
      if (kind == "run") set(words, scenario.run);
      else if (kind == "engine") set(words, scenario.engine);
      else if (kind == "step_time") set(words, scenario.step_time);
      else if (kind == "tenant") set(words, scenario.tenants.emplace_back());
      else if (!kind.empty()) throw std::invalid_argument("no such thing: " + line);
    }
    return scenario;
  }

 private:
  template <typename Fields>
  static void set(std::istream& words, Fields& fields) {
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      bool known = false;
      fields.each([&](const std::string& name, auto& field) {
        if (name != word.substr(0, equals)) return;
        assign(word.substr(equals + 1), field);
        known = true;
      });
      if (!known) throw std::invalid_argument("not understood: " + word);
    }
  }

  static void assign(const std::string& value, double& field) { field = std::stod(value); }
  template <typename Number>
  static void assign(const std::string& value, Number& field) {
    field = static_cast<Number>(std::stoll(value));
  }
};

}  // namespace aruntime::simulation
