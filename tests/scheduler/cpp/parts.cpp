// The scheduler's small parts, each against the plainest thing that does the same.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "cache/block_pool.hpp"
#include "expect.hpp"
#include "scheduler/check.hpp"
#include "scheduler/deadlines.hpp"
#include "scheduler/order.hpp"

using namespace aruntime;

static void a_pool_gives_every_block_once_and_takes_all_back() {
  BlockPool pool(7);
  std::vector<std::int32_t> one, other;
  pool.take(3, one);
  pool.take(4, other);
  EXPECT(pool.free() == 0);
  std::set<std::int32_t> all(one.begin(), one.end());
  all.insert(other.begin(), other.end());
  EXPECT(all.size() == 7 && *all.begin() == 0 && *all.rbegin() == 6);
  const std::vector<std::int32_t> before = one;
  pool.give_back(one);
  EXPECT(pool.free() == 3 && one.empty());
  pool.take(3, one);
  EXPECT(one == before);  // last in, first out
}

static void counts_agree_with_a_map() {
  std::mt19937 random(1);
  TokenCounts counts(300);
  std::map<std::int32_t, std::pair<int, int>> plain;
  for (int i = 0; i < 2000; ++i) {
    const auto token = static_cast<std::int32_t>(random() % 300) * 4096;  // all in one place of a naive table
    if (random() % 2) {
      counts.add_prompt(token);
      plain[token].second = 1;
    } else {
      counts.add_output(token);
      ++plain[token].first;
    }
  }
  EXPECT(counts.token().size() == plain.size());
  for (std::size_t row = 0; row < plain.size(); ++row) {
    EXPECT(plain[counts.token()[row]] == std::make_pair(counts.output_count()[row], counts.in_prompt()[row]));
  }
}

static void deadlines_come_out_in_order_whoever_leaves() {
  std::mt19937 random(2);
  std::vector<Sequence> sequences(200);
  Deadlines deadlines;
  std::multiset<double> plain;
  for (Sequence& sequence : sequences) {
    sequence.deadline_s = random() % 8 ? random() % 50 : std::numeric_limits<double>::infinity();
    deadlines.add(sequence);
    if (sequence.deadline_s < 100) plain.insert(sequence.deadline_s);
  }
  for (std::size_t i = 0; i < sequences.size(); i += 3) {
    deadlines.remove(sequences[i]);
    if (sequences[i].deadline_s < 100) plain.erase(plain.find(sequences[i].deadline_s));
  }
  for (; !plain.empty(); plain.erase(plain.begin())) {
    EXPECT(deadlines.next_s() == *plain.begin());
    EXPECT(deadlines.passed(*plain.begin() - 0.5) == nullptr);
    Sequence* passed = deadlines.passed(*plain.begin());
    EXPECT(passed && passed->deadline_s == *plain.begin());
    deadlines.remove(*passed);
  }
  EXPECT(deadlines.next_s() == std::numeric_limits<double>::infinity() && !deadlines.passed(1e300));
}

static void order_is_by_class_then_by_arrival_and_the_preempted_come_first() {
  std::vector<Sequence> sequences(6);
  for (std::size_t i = 0; i < 6; ++i) {
    sequences[i].number = i;
    sequences[i].priority = i % 2 ? Priority::kInteractive : Priority::kBatch;
  }
  ArrivalOrder order;
  for (const std::size_t i : {1u, 2u, 3u, 4u, 5u}) order.enter(sequences[i]);
  order.reenter(sequences[0]);
  order.leave(sequences[3]);
  std::vector<std::uint64_t> seen;
  order.each([&](const Sequence& sequence) { seen.push_back(sequence.number); });
  EXPECT((seen == std::vector<std::uint64_t>{1, 5, 0, 2, 4}));
  while (Sequence* next = order.next()) order.leave(*next);
  EXPECT(ArrivalOrder::before(sequences[5], sequences[0]) && !ArrivalOrder::before(sequences[0], sequences[5]));
}

static void a_wrong_number_is_never_valid() {
  const Limits limits{.sequences_max = 4, .step_tokens_max = 8, .waiting_max = 4, .context_max = 32, .block_tokens = 4,
                      .blocks = 8, .vocab = 100};
  const std::vector<std::int32_t> prompt{0, 99};
  SubmitHead good;
  good.deadline_s = 1;
  good.prompt_tokens = 2;
  good.max_tokens = 1;
  EXPECT(is_valid(good, prompt.data(), limits));
  const auto wrong = [&](auto change) {
    SubmitHead head = good;
    change(head);
    EXPECT(!is_valid(head, prompt.data(), limits));
  };
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  for (const float value : {nan, infinity, -0.5f}) {
    wrong([&](SubmitHead& head) { head.sampling.temperature = value; });
    wrong([&](SubmitHead& head) { head.sampling.top_p = value; });
    wrong([&](SubmitHead& head) { head.sampling.min_p = value; });
    wrong([&](SubmitHead& head) { head.sampling.repetition_penalty = value; });
    wrong([&](SubmitHead& head) { head.sampling.presence_penalty = value * 5; });
    wrong([&](SubmitHead& head) { head.sampling.frequency_penalty = value * 5; });
  }
  wrong([&](SubmitHead& head) { head.sampling.top_p = 1.5f; });
  wrong([&](SubmitHead& head) { head.sampling.top_p = 0.0f; });
  wrong([&](SubmitHead& head) { head.sampling.min_p = 1.5f; });
  wrong([&](SubmitHead& head) { head.sampling.repetition_penalty = 0.0f; });
  wrong([&](SubmitHead& head) { head.sampling.top_k = -1; });
  wrong([&](SubmitHead& head) { head.deadline_s = nan; });
  wrong([&](SubmitHead& head) { head.deadline_s = -infinity; });
  wrong([&](SubmitHead& head) { head.max_tokens = 0; });
  wrong([&](SubmitHead& head) { head.prompt_tokens = 0; });
  wrong([&](SubmitHead& head) { head.prompt_tokens = 32; });
  wrong([&](SubmitHead& head) { head.prompt_tokens = 0xFFFFFFFFu; });
  wrong([&](SubmitHead& head) { head.priority = static_cast<Priority>(3); });
  wrong([&](SubmitHead& head) { head.stop_tokens = kStopTokensMax + 1; });
  wrong([&](SubmitHead& head) { head.stop_tokens = 1, head.stop_token_ids[0] = 100; });
  const std::vector<std::int32_t> strangers[] = {{0, 100}, {-1, 0}, {0, INT32_MIN}};
  for (const auto& ids : strangers) EXPECT(!is_valid(good, ids.data(), limits));
}

int main() {
  a_pool_gives_every_block_once_and_takes_all_back();
  counts_agree_with_a_map();
  deadlines_come_out_in_order_whoever_leaves();
  order_is_by_class_then_by_arrival_and_the_preempted_come_first();
  a_wrong_number_is_never_valid();
}
