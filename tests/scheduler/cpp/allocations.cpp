// Between submit and end nothing is allocated: every call of the allocator is counted.
#include "allocations.hpp"
#include "expect.hpp"
#include "scheduler/scheduler.hpp"

using namespace aruntime;

int main() {
  constexpr std::uint32_t kSequences = 48;
  // Too few blocks for all: some are preempted and come back.
  const Limits limits{.sequences_max = 48, .step_tokens_max = 256, .waiting_max = 64, .context_max = 4096,
                      .block_tokens = 16, .blocks = 1000, .vocab = 1000};
  Scheduler scheduler(limits, {2});
  std::vector<std::int32_t> prompt(100, 5);
  const std::vector<std::int32_t> tokens(kSequences, 7);
  std::vector<OutputRecord> records(kSequences);
  SubmitHead head;
  head.deadline_s = 1e9;
  head.prompt_tokens = 100;
  head.max_tokens = 600;
  for (head.slot = 0; head.slot < kSequences; ++head.slot) {
    prompt[0] = static_cast<std::int32_t>(head.slot) / 2;  // two of each kind: one follows the other
    head.tenant = head.slot % 3;
    EXPECT(scheduler.submit(0, head, prompt.data()) == FinishReason::kNone);
  }
  const long before = allocations;
  EXPECT(before > 0);
  for (int step = 0; step < 500; ++step) {
    scheduler.plan(0);
    scheduler.commit(tokens.data(), nullptr, 0);
    scheduler.take_outputs(0, records.data(), kSequences);
  }
  EXPECT(scheduler.stats().preemptions > 0);
  EXPECT(allocations == before);
}
