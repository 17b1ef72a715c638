// The scheduler's small parts, each against the plainest thing that does the same.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "expect.hpp"
#include "scheduler/check.hpp"
#include "scheduler/heap.hpp"
#include "scheduler/order.hpp"
#include "scheduler/pace.hpp"

using namespace aruntime;

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

static void a_heap_gives_the_first_whoever_leaves() {
  struct Entry {
    int value = 0;
    std::uint32_t place = 0;
  };
  struct Less {
    bool operator()(const Entry& one, const Entry& other) const { return one.value < other.value; }
  };
  std::mt19937 random(2);
  std::vector<Entry> entries(200);
  Heap<Entry, &Entry::place, Less> heap;
  std::multiset<int> plain;
  for (Entry& entry : entries) {
    entry.value = static_cast<int>(random() % 50);
    heap.add(entry);
    plain.insert(entry.value);
  }
  for (std::size_t i = 0; i < entries.size(); i += 3) {
    heap.remove(entries[i]);
    plain.erase(plain.find(entries[i].value));
  }
  for (; !plain.empty(); plain.erase(plain.begin())) {
    EXPECT(heap.size() == plain.size() && heap.first()->value == *plain.begin());
    heap.remove(*heap.first());
  }
  EXPECT(heap.empty() && !heap.first());
}

using Sequences = std::deque<Sequence>;

// One more sequence with something to prefill, numbered in order.
static void want(Sequences& sequences, std::uint32_t tenant, Priority priority, double due_s = 0) {
  Sequence& sequence = sequences.emplace_back();
  sequence.tenant = tenant;
  sequence.number = sequences.size() - 1;
  sequence.priority = priority;
  sequence.due_s = due_s;
}

static void a_class_is_ordered_by_due_time_then_arrival_and_residents_go_on_first() {
  Sequences sequences;
  for (const double due_s : {5.0, 5.0, 1.0, 5.0}) want(sequences, 0, Priority::kStandard, due_s);
  FairOrder order;
  for (Sequence& sequence : sequences) order.enter(sequence);
  order.reorder(sequences[3], [&] { sequences[3].residence = 1; });
  for (const std::size_t expected : {3u, 2u, 0u, 1u}) {
    EXPECT(order.next() == &sequences[expected]);
    order.leave(sequences[expected]);
  }
  EXPECT(!order.next() && order.wanting().empty());
}

// Serves `turns` tokens in the order's order among sequences that always want more; returns what each had.
static std::vector<int> serve(FairOrder& order, Sequences& sequences, int turns) {
  std::vector<int> had(sequences.size(), 0);
  for (Sequence& sequence : sequences) order.enter(sequence);
  for (int turn = 0; turn < turns; ++turn) {
    Sequence* next = order.next();
    order.charge(*next, 1, kPrefillCost);
    ++had[static_cast<std::size_t>(next->number)];
  }
  return had;
}

static void tenants_share_by_weight_however_many_sequences_they_have() {
  FairOrder order;
  order.set_terms(2, {.weight = 3.0});
  Sequences sequences;
  for (int i = 0; i < 10; ++i) want(sequences, i < 9 ? 1 : 2, Priority::kStandard);
  const std::vector<int> had = serve(order, sequences, 4000);
  EXPECT(std::abs(had[9] - 3000) <= 3);
}

static void a_high_class_buys_nothing_from_another_tenant_and_a_low_one_never_starves() {
  FairOrder order;
  Sequences sequences;
  want(sequences, 1, Priority::kInteractive);
  want(sequences, 1, Priority::kBatch);
  want(sequences, 2, Priority::kBatch);
  const std::vector<int> had = serve(order, sequences, 100'000);
  EXPECT(std::abs(had[2] - 50'000) <= 2);
  EXPECT(std::abs(had[0] - 16 * had[1]) <= 16 * 257);  // 16 : 1, but for the turn that the high class has first
  EXPECT(had[1] > 2000);
}

static void who_wanted_nothing_is_served_first_but_saves_up_little() {
  FairOrder order;
  Sequences sequences;
  for (const std::uint32_t tenant : {1u, 2u}) want(sequences, tenant, Priority::kStandard);
  order.enter(sequences[0]);
  for (int turn = 0; turn < 1000; ++turn) order.charge(sequences[0], 1000, kPrefillCost);
  order.leave(sequences[0]);
  const std::vector<int> had = serve(order, sequences, 100'000);
  EXPECT(std::abs(had[1] - had[0] - static_cast<int>(kSavedTokensMin)) <= 1);
}

static void reserved_service_goes_before_weights_and_lapses_after_a_second() {
  FairOrder order;
  order.set_terms(2, {.weight = 0.001, .tokens_per_s_reserved = 100.0});
  Sequences sequences;
  for (const std::uint32_t tenant : {1u, 2u}) want(sequences, tenant, Priority::kStandard);
  for (Sequence& sequence : sequences) order.enter(sequence);
  int had[2] = {0, 0};
  const auto turns = [&](double now_s, int count) {
    order.begin(now_s);
    for (; count > 0; --count) {
      Sequence* next = order.next();
      order.charge(*next, 1, kPrefillCost);
      ++had[next->number];
    }
  };
  turns(0.0, 1000);
  EXPECT(had[1] <= 1);
  turns(0.5, 1000);
  EXPECT(had[1] >= 50 && had[1] <= 52);
  turns(100.0, 1000);
  EXPECT(had[1] >= 149 && had[1] <= 153);  // a second's worth, not a hundred
}

static void the_pace_is_learnt_from_steps_and_forgets() {
  Pace pace;
  std::mt19937 random(3);
  const auto took = [](const StepWork& work, double factor) {
    return factor * (1e-3 + 1e-5 * static_cast<double>(work.prefill_tokens) + 2e-5 * static_cast<double>(work.decodes) +
                     1e-8 * static_cast<double>(work.context_tokens));
  };
  const auto any = [&] {
    StepWork work;
    work.prefill_tokens = random() % 2 ? random() % 512 : 0;
    work.decodes = random() % 64;
    work.context_tokens = work.decodes * (100 + random() % 1000);
    return work;
  };
  EXPECT(!pace.known());
  for (const double factor : {1.0, 3.0}) {
    for (int step = 0; step < 2000; ++step) {
      const StepWork work = any();
      pace.learn(work, took(work, factor) * (0.9 + 0.2 * static_cast<double>(random() % 1000) / 1000));
    }
    for (int step = 0; step < 100; ++step) {
      const StepWork work = any();
      EXPECT(std::abs(pace.seconds(work) / took(work, factor) - 1) < 0.15);
    }
    const StepWork decodes{.decodes = 32, .context_tokens = 32 * 500};
    const double limit_s = factor * 5e-3;
    StepWork full = decodes;
    full.prefill_tokens = pace.prefill_room(decodes, limit_s);
    EXPECT(std::abs(took(full, factor) / limit_s - 1) < 0.15);
    EXPECT(pace.prefill_room(decodes, factor * 1e-4) == 0);
  }
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
  wrong([&](SubmitHead& head) { head.tenant = kTenantsMax; });
  wrong([&](SubmitHead& head) { head.arrived_s = nan; });
  wrong([&](SubmitHead& head) { head.stop_tokens = kStopTokensMax + 1; });
  wrong([&](SubmitHead& head) { head.stop_tokens = 1, head.stop_token_ids[0] = 100; });
  const std::vector<std::int32_t> strangers[] = {{0, 100}, {-1, 0}, {0, INT32_MIN}};
  for (const auto& ids : strangers) EXPECT(!is_valid(good, ids.data(), limits));
}

int main() {
  counts_agree_with_a_map();
  a_heap_gives_the_first_whoever_leaves();
  a_class_is_ordered_by_due_time_then_arrival_and_residents_go_on_first();
  tenants_share_by_weight_however_many_sequences_they_have();
  a_high_class_buys_nothing_from_another_tenant_and_a_low_one_never_starves();
  who_wanted_nothing_is_served_first_but_saves_up_little();
  reserved_service_goes_before_weights_and_lapses_after_a_second();
  the_pace_is_learnt_from_steps_and_forgets();
  a_wrong_number_is_never_valid();
}
