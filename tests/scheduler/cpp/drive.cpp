// A seeded drive of the whole scheduler under sanitizers: arrivals, cancels, deadlines, floods, lost front ends, broken
// steps, readers that do not read. `drive SEED STEPS`; the same seed gives the same drive.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <random>

#include "expect.hpp"
#include "scheduler/scheduler.hpp"

using namespace aruntime;

namespace {

constexpr Limits kLimits{.sequences_max = 12, .step_tokens_max = 40, .waiting_max = 20, .context_max = 200,
                         .block_tokens = 4, .blocks = 90, .vocab = 500};
constexpr std::uint32_t kFrontEnds = 3;

struct Drive {
  explicit Drive(std::uint32_t seed) : random(seed), scheduler(kLimits, {1, 2}) {
    scheduler.set_tenant(1, {.weight = 2.0, .prefix_group = 1});
    scheduler.set_tenant(2, {.cache_max = 0.4, .prefix_group = 1});
    scheduler.set_tenant(3, {.cache_reserved = 0.3, .tokens_per_s_reserved = 5.0, .prefix_group = 3});
  }

  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); }

  void submit() {
    SubmitHead head;
    head.slot = next++;
    head.generation = below(3);
    head.prompt_tokens = 1 + below(below(8) ? 40 : 220);  // some can never fit
    head.max_tokens = below(60);                          // some ask for nothing
    head.min_tokens = below(3) ? 0 : below(20);
    head.deadline_s = below(4) ? std::numeric_limits<double>::infinity() : now_s + below(40);
    head.priority = static_cast<Priority>(below(3));
    head.tenant = below(4);
    head.arrived_s = now_s;
    head.sampling.repetition_penalty = below(4) ? 1.0f : 1.2f;
    head.sampling.presence_penalty = below(4) ? 0.0f : 0.5f;
    head.stop_tokens = below(3);
    head.stop_token_ids[0] = 7;
    std::vector<std::int32_t> prompt(head.prompt_tokens);
    const std::uint32_t alike = below(head.prompt_tokens + 1);  // so much of it others say too
    for (std::uint32_t i = 0; i < head.prompt_tokens; ++i) {
      prompt[i] = static_cast<std::int32_t>(i < alike ? i % 500 : below(500));
    }
    const std::vector<std::byte> payload = below(2) ? steer(head) : std::vector<std::byte>();
    const std::uint32_t front_end = below(kFrontEnds);
    const FinishReason answer = scheduler.submit(front_end, head, prompt.data(), payload.data());
    open[front_end][FrontEnd::key(head.slot, head.generation)] = 0;
    refused += answer != FinishReason::kNone;
  }

  // Asks for biases, bad words, a grammar and likelihoods; now and then in a way that cannot be.
  std::vector<std::byte> steer(SubmitHead& head) {
    std::vector<std::int32_t> numbers;
    Steering& asked = head.steering;
    asked.top_logprobs = static_cast<std::uint8_t>(below(4) ? 0 : below(21));
    asked.prompt_logprobs = below(4) == 0;
    asked.bias_pairs = static_cast<std::uint16_t>(below(4));
    for (std::int32_t token = 0; token < asked.bias_pairs; ++token) {
      numbers.push_back(token);
      numbers.push_back(std::bit_cast<std::int32_t>(static_cast<float>(below(200)) - 100.0f));
    }
    asked.bad_words = static_cast<std::uint16_t>(below(4));
    for (std::uint32_t word = 0; word < asked.bad_words; ++word) {
      numbers.push_back(static_cast<std::int32_t>(1 + below(3)));
      asked.bad_word_tokens = static_cast<std::uint16_t>(asked.bad_word_tokens + numbers.back());
      for (std::int32_t left = numbers.back(); left > 0; --left) numbers.push_back(static_cast<std::int32_t>(below(500)));
    }
    asked.grammar_bytes = below(4) ? 0 : below(9);
    std::vector<std::byte> payload(4 * numbers.size() + asked.grammar_bytes);
    if (!numbers.empty()) std::memcpy(payload.data(), numbers.data(), 4 * numbers.size());
    if (below(8) == 0 && !payload.empty()) payload[below(static_cast<std::uint32_t>(payload.size()))] = std::byte(random());
    if (below(30) == 0) payload.resize(below(40));
    head.payload_bytes = static_cast<std::uint32_t>(payload.size());
    payload.shrink_to_fit();  // a byte beyond it ends the program
    return payload;
  }

  void release() {
    for (std::uint32_t front_end = 0; front_end < kFrontEnds; ++front_end) {
      for (const auto& [key, index] : open[front_end]) {
        const auto slot = static_cast<std::uint32_t>(key >> 32), generation = static_cast<std::uint32_t>(key);
        if (below(3)) scheduler.release({front_end, slot, generation}, below(5) > 0);
      }
    }
  }

  // Says one of the three to a sequence of chance.
  void tell(void (Scheduler::*word)(std::uint32_t, std::uint32_t, std::uint32_t)) {
    const std::uint32_t front_end = below(kFrontEnds);
    if (open[front_end].empty()) return;
    auto at = open[front_end].lower_bound(std::uint64_t{below(next + 1)} << 32);
    if (at == open[front_end].end()) at = open[front_end].begin();
    (scheduler.*word)(front_end, static_cast<std::uint32_t>(at->first >> 32), static_cast<std::uint32_t>(at->first));
  }

  void resume_all() {
    for (int turn = 0; turn < 30; ++turn) release();
    for (std::uint32_t front_end = 0; front_end < kFrontEnds; ++front_end) {
      for (const auto& [key, index] : open[front_end]) {
        scheduler.resume(front_end, static_cast<std::uint32_t>(key >> 32), static_cast<std::uint32_t>(key));
      }
    }
  }

  void drop() {
    const std::uint32_t front_end = below(kFrontEnds);
    scheduler.drop_front_end(front_end);
    open[front_end].clear();
  }

  void step() {
    const StepPlan& plan = scheduler.plan(now_s);
    scheduler.check_integrity();
    EXPECT(plan.tokens <= kLimits.step_tokens_max && plan.sequences <= kLimits.sequences_max);
    EXPECT(plan.query_start[static_cast<std::size_t>(plan.sequences)] == plan.tokens || plan.tokens == 0);
    if (below(10) == 0) tell(&Scheduler::cancel);
    if (below(300) == 0) drop();
    under_way.push_back({plan.samples, plan.likely_row.size(), plan.scored_index.size(), plan.top});
    if (plan.tokens == 0) under_way.pop_back();
    while (under_way.size() > ahead) end_step();
  }

  void end_step() {
    const Under step = under_way.front();
    under_way.pop_front();
    if (below(50) == 0) return scheduler.fail_step();
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(step.samples));
    for (auto& token : tokens) token = static_cast<std::int32_t>(below(below(100) ? 500 : 600));  // a few are no tokens
    const std::size_t rows = std::max(step.likely, step.scored);
    const std::vector<std::int32_t> top_token(rows * static_cast<std::size_t>(step.top), 3);
    const std::vector<float> top_logprob(top_token.size(), -1.0f), logprob(rows, below(9) ? -1.0f : std::nanf(""));
    const Likelihoods told{logprob.data(), top_token.data(), top_logprob.data(), step.top};
    scheduler.commit(tokens.data(), nullptr, now_s, told, below(9) ? told : Likelihoods{});
    scheduler.take_guided_ended();
  }

  void take(std::uint32_t front_end, std::uint32_t max) {
    std::vector<OutputRecord> records(max);
    records.resize(scheduler.take_outputs(front_end, records.data(), max));
    for (const OutputRecord& record : records) {
      const auto known = open[front_end].find(FrontEnd::key(record.slot, record.generation));
      EXPECT(known != open[front_end].end());  // never after its end, never another's
      EXPECT(std::isfinite(record.logprob));
      if (record.kind != RecordKind::kToken) continue;
      EXPECT(record.index == known->second);
      EXPECT(record.token >= 0 || record.finish != FinishReason::kNone);
      known->second += record.token >= 0;
      if (record.finish != FinishReason::kNone) open[front_end].erase(known);
    }
  }

  void turn() {
    now_s += 0.5;
    for (std::uint32_t count = below(flood ? 12 : 3); count > 0; --count) submit();
    if (below(5) == 0) tell(&Scheduler::cancel);
    if (below(5) == 0) tell(&Scheduler::pause);
    if (below(4) == 0) tell(&Scheduler::resume);
    if (below(3) == 0) release();
    if (below(100) == 0) ahead = below(2);
    if (below(500) == 0) drop();
    if (below(200) == 0) flood = !flood;
    step();
    scheduler.check_integrity();
    if (below(3)) take(below(kFrontEnds), 1 + below(100));
    scheduler.check_integrity();
  }

  void finish() {
    scheduler.drain();
    resume_all();
    for (int steps = 0; scheduler.stats().waiting + scheduler.stats().running > 0; ++steps) {
      EXPECT(steps < 20000);
      ahead = 0;
      step();
    }
    while (!under_way.empty()) end_step();
    for (std::uint32_t front_end = 0; front_end < kFrontEnds; ++front_end) {
      take(front_end, 100000);
      EXPECT(open[front_end].empty());
    }
    EXPECT(scheduler.stats().blocks_free == kLimits.blocks && scheduler.stats().undelivered == 0);
    scheduler.check_integrity();
  }

  std::mt19937 random;
  Scheduler scheduler;
  double now_s = 0;
  bool flood = false;
  struct Under {
    std::int32_t samples;
    std::size_t likely, scored;
    std::int32_t top;
  };
  std::deque<Under> under_way;   // of each step that is not committed
  std::size_t ahead = 0;               // steps that are left under way
  std::uint32_t next = 0, refused = 0;
  std::map<std::uint64_t, std::uint32_t> open[kFrontEnds];  // what has not ended: tokens taken so far
};

}  // namespace

int main(int, char** arguments) {
  Drive drive(static_cast<std::uint32_t>(std::atoi(arguments[1])));
  for (int steps = std::atoi(arguments[2]); steps > 0; --steps) drive.turn();
  drive.finish();
  const Stats stats = drive.scheduler.stats();
  std::printf("steps %lld preemptions %lld refused %u\n", static_cast<long long>(stats.steps),
              static_cast<long long>(stats.preemptions), drive.refused);
  EXPECT(stats.preemptions > 0 && stats.cached_tokens > 0 && drive.refused > 0);  // the drive went where it should
}
