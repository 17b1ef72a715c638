// The rule of the door: bounds, shares, classes, forecasts; each against what its sentence says.
#include <random>

#include "admission/verdict.hpp"
#include "expect.hpp"

using namespace aruntime;
using namespace aruntime::admission;

static std::int64_t below(std::mt19937& random, std::uint32_t bound) { return random() % bound; }

static const Priority kClasses[] = {Priority::kInteractive, Priority::kStandard, Priority::kBatch};

static Request of(Priority priority, std::int64_t sequences = 1, std::int64_t prompt_tokens = 10) {
  Request request;
  request.priority = priority;
  request.sequences = sequences;
  request.prompt_tokens = prompt_tokens;
  return request;
}

static Refusal ask(const Bounds& bounds, const Standing& now, const Request& request, const Pace& pace = {}) {
  return judge(bounds, now, pace, 1.0, request).refusal;
}

// Sequences of `priority`, one by one, until one is refused.
static std::int64_t fill(const Bounds& bounds, Standing& now, Priority priority) {
  std::int64_t entered = 0;
  for (; ask(bounds, now, of(priority)) == Refusal::kNone; ++entered) ++now.all.in_flight, ++now.tenant.in_flight;
  return entered;
}

static void a_class_leaves_room_to_those_above_it() {
  const Bounds bounds{.sequences_max = 64, .waiting_max = 256};
  Standing now;
  EXPECT(fill(bounds, now, Priority::kBatch) == 64 + 192);
  EXPECT(fill(bounds, now, Priority::kStandard) == 48);
  EXPECT(fill(bounds, now, Priority::kInteractive) == 16);
  EXPECT(now.all.in_flight == 320);
}

static void the_smallest_queue_is_one_for_every_class() {
  for (const Priority priority : kClasses) {
    Standing now;
    EXPECT(fill({.sequences_max = 1, .waiting_max = 1}, now, priority) == 2);
  }
}

static void one_that_floods_leaves_half_and_two_leave_a_third() {
  const Bounds bounds{.sequences_max = 10, .waiting_max = 290};
  Standing now;
  now.shared = true;
  EXPECT(fill(bounds, now, Priority::kInteractive) == 150);
  EXPECT(ask(bounds, now, of(Priority::kInteractive)) == Refusal::kShare);
  now.tenant = {};  // another tenant
  EXPECT(fill(bounds, now, Priority::kInteractive) == 75);
  now.tenant = {};
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 38)) == Refusal::kNone);
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 39)) == Refusal::kShare);  // a burst leaves room too
}

static void a_tenant_that_is_alone_may_have_all_and_free_places_are_nobodys() {
  const Bounds bounds{.sequences_max = 10, .waiting_max = 2};
  Standing now;
  EXPECT(fill(bounds, now, Priority::kInteractive) == 12);
  now = {};
  now.shared = true;
  EXPECT(fill(bounds, now, Priority::kBatch) == 10);
}

static void what_would_never_be_let_in_is_known() {
  const Bounds bounds{.sequences_max = 2, .waiting_max = 9};
  EXPECT(could_hold(bounds, false, of(Priority::kInteractive, 11)));
  EXPECT(!could_hold(bounds, false, of(Priority::kBatch, 10)));
  EXPECT(could_hold(bounds, true, of(Priority::kInteractive, 6)));
  EXPECT(!could_hold(bounds, true, of(Priority::kInteractive, 7)));
}

static void whoever_holds_nothing_always_finds_room_beside_a_flood() {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const Bounds bounds{.sequences_max = 1 + below(random, 20), .waiting_max = 1 + below(random, 60)};
    Standing now;
    now.shared = true;
    while (true) {  // in bursts of any size
      const auto burst = 1 + below(random, 7);
      if (ask(bounds, now, of(Priority::kInteractive, burst)) != Refusal::kNone) break;
      now.all.in_flight += burst, now.tenant.in_flight += burst;
    }
    now.tenant = {};
    EXPECT(ask(bounds, now, of(Priority::kInteractive)) == Refusal::kNone);
  }
}

static void a_higher_class_is_never_refused_where_a_lower_one_is_let_in() {
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    Bounds bounds{.sequences_max = 1 + below(random, 9), .waiting_max = 1 + below(random, 40)};
    bounds.waiting_tokens_max = 1 + below(random, 5000);
    bounds.ttft_s = 0.01 * static_cast<double>(below(random, 300));
    Standing now;
    now.tenant = {below(random, 20), below(random, 20), below(random, 2000)};
    now.all = {now.tenant.in_flight + below(random, 20), now.tenant.queued + below(random, 9), now.tenant.queued_tokens + below(random, 900)};
    now.classes[1] = {below(random, 1 + now.tenant.queued / 2), below(random, 1 + now.tenant.queued_tokens / 2)};
    now.classes[2] = {below(random, 1 + now.tenant.queued / 2), below(random, 1 + now.tenant.queued_tokens / 2)};
    now.shared = below(random, 2) == 1;
    now.rivals_weight = static_cast<double>(below(random, 3));
    const Pace pace{0.01, 100.0 * static_cast<double>(below(random, 20)), 0.01 * static_cast<double>(below(random, 5))};
    Refusal above = Refusal::kNone;
    for (const Priority priority : kClasses) {
      const Refusal found = ask(bounds, now, of(priority, 1, 100), pace);
      EXPECT(above == Refusal::kNone || found != Refusal::kNone);
      above = found;
    }
  }
}

static void a_prompt_is_bounded_by_what_is_queued_and_never_by_itself() {
  const Bounds bounds{.sequences_max = 4, .waiting_max = 100, .waiting_tokens_max = 1000};
  Standing now;
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 5000)) == Refusal::kNone);
  now.all.queued = 1, now.all.queued_tokens = 1;
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 999)) == Refusal::kNone);
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 1000)) == Refusal::kTokens);
  EXPECT(ask(bounds, now, of(Priority::kBatch, 1, 800)) == Refusal::kTokens);
}

static void a_forecast_is_the_tenants_share_of_the_pace() {
  const Pace pace{0.02, 1000, 0};
  Held all{9, 9, 900}, tenant{1, 1, 100};
  EXPECT(std::abs(forecast(pace, all, tenant, 1, 3, 1, 50).first_s - (150 * 4 / 1000.0 + 0.02)) < 1e-9);
  EXPECT(std::abs(forecast(pace, all, tenant, 3, 1, 1, 50).first_s - (150 * 4 / 3.0 / 1000 + 0.02)) < 1e-9);
  // Behind all that is queued, whatever the share.
  EXPECT(std::abs(forecast(pace, all, tenant, 1, 99, 1, 50).first_s - (950 / 1000.0 + 0.02)) < 1e-9);
  EXPECT(std::abs(forecast(pace, all, tenant, 1, 3, 1, 50).wait_s - 0.4) < 1e-9);
}

static void a_lower_class_of_ones_own_counts_only_for_what_is_served_of_it_meanwhile() {
  const Held tenant{0, 11, 11400};
  const Classes classes{{{1, 400}, {2, 1000}, {8, 10000}}};
  const auto before = [&](Priority priority) { return counted_before(tenant, classes, priority, 3, 1200); };
  EXPECT(before(Priority::kInteractive).queued_tokens == 400 + 1600 / 4 + 1600 / 16);
  EXPECT(before(Priority::kInteractive).queued == 1 + 1 + 0);
  EXPECT(before(Priority::kStandard).queued_tokens == 1400 + 2600 / 4);
  EXPECT(before(Priority::kBatch).queued_tokens == 11400 && before(Priority::kBatch).queued == 11);
  const Classes small{{{0, 0}, {1, 5}, {1, 6}}};  // no more than there is
  EXPECT(counted_before({0, 2, 11}, small, Priority::kInteractive, 1, 1200).queued_tokens == 11);
  EXPECT(counted_before({0, 2, 11}, {}, Priority::kInteractive, 1, 1200).queued_tokens == 11);
}

static void places_are_waited_for_only_while_all_are_taken() {
  Held all{70, 6, 60}, tenant{6, 6, 60};
  EXPECT(forecast({0.01, 1e6, 0}, all, tenant, 1, 0, 2, 10).first_s < 0.02);
  EXPECT(std::abs(forecast({0.01, 1e6, 0.5}, all, tenant, 1, 0, 2, 10).first_s - (8 * 0.5 + 0.01)) < 1e-9);
}

static void an_unknown_pace_forecasts_nothing_and_lets_in() {
  const Bounds bounds{.sequences_max = 1, .waiting_max = 9, .ttft_s = 0.1};
  Standing now;
  now.all = now.tenant = {5, 4, 400};
  Request request = of(Priority::kBatch);
  request.left_s = 1e-6;
  EXPECT(ask(bounds, now, request) == Refusal::kNone);
}

static void a_deadline_that_is_out_of_reach_is_known_at_the_door() {
  Standing now;
  now.all = now.tenant = {4, 4, 4000};
  const Pace pace{0.01, 1000, 0};
  Request request = of(Priority::kInteractive, 1, 1000);
  request.left_s = 4.9;
  EXPECT(judge({.sequences_max = 9, .waiting_max = 9}, now, pace, 1.0, request).refusal == Refusal::kDeadline);
  EXPECT(judge({.sequences_max = 9, .waiting_max = 9}, now, pace, 0.9, request).refusal == Refusal::kNone);
  request.left_s = 0;
  EXPECT(judge({}, {}, {}, 0.5, request).refusal == Refusal::kDeadline);
}

static void a_queue_beyond_the_objective_is_not_joined_but_a_long_prompt_alone_is_served() {
  const Bounds bounds{.sequences_max = 9, .waiting_max = 90, .ttft_s = 2};
  const Pace pace{0.01, 1000, 0};
  EXPECT(ask(bounds, {}, of(Priority::kBatch, 1, 60000), pace) == Refusal::kNone);
  Standing now;
  now.all = now.tenant = {2, 2, 1700};
  EXPECT(ask(bounds, now, of(Priority::kBatch), pace) == Refusal::kSlow);
  EXPECT(ask(bounds, now, of(Priority::kStandard), pace) == Refusal::kNone);
  now.all.queued_tokens = now.tenant.queued_tokens = 1900;
  EXPECT(ask(bounds, now, of(Priority::kStandard), pace) == Refusal::kSlow);
  EXPECT(ask(bounds, now, of(Priority::kInteractive), pace) == Refusal::kNone);
}

static void the_queue_leaves_room_for_the_prompt_but_not_for_more_than_half_the_objective() {
  const Bounds bounds{.sequences_max = 9, .waiting_max = 90, .ttft_s = 2};
  const Pace pace{0, 1000, 0};
  Standing now;
  now.all = now.tenant = {1, 1, 1500};
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 499), pace) == Refusal::kNone);
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 501), pace) == Refusal::kSlow);
  now.all.queued_tokens = now.tenant.queued_tokens = 999;
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 60000), pace) == Refusal::kNone);
  Request late = of(Priority::kInteractive);
  late.spent_s = 9;  // before the door
  EXPECT(ask(bounds, now, late, pace) == Refusal::kNone);
  now.all.queued_tokens = now.tenant.queued_tokens = 1001;
  EXPECT(ask(bounds, now, of(Priority::kInteractive, 1, 60000), pace) == Refusal::kSlow);
  EXPECT(ask(bounds, now, late, pace) == Refusal::kSlow);
}

static void a_queue_that_takes_longer_than_forecast_is_let_grow_less() {
  const Bounds bounds{.sequences_max = 9, .waiting_max = 90, .ttft_s = 2};
  Standing now;
  now.all = now.tenant = {1, 1, 1200};
  const auto found = [&](double enough) {
    return judge(bounds, now, {0, 1000, 0}, {0.5, enough}, of(Priority::kInteractive));
  };
  EXPECT(found(1).refusal == Refusal::kNone);
  EXPECT(found(2).refusal == Refusal::kSlow);
  EXPECT(std::abs(found(3).retry_after_s - (1.2 * 3 + 0.01 * 3 - 2)) < 1e-9);
}

// The numbers of docs/scheduling.md.
static void the_example_of_the_docs_holds() {
  const Bounds bounds{.sequences_max = 64, .waiting_max = 256, .ttft_s = 2};
  Pace pace{0.01, 40000, 0};
  Standing now;
  now.shared = true;
  const Request gamma = of(Priority::kBatch, 1, 400);
  for (int i = 0; i < 128; ++i) {
    const Verdict verdict = judge(bounds, now, pace, 0.5, gamma);
    EXPECT(verdict.refusal == Refusal::kNone);
    EXPECT(i < 127 || std::abs(verdict.forecast.wait_s - 1.27) < 1e-9);
    ++now.all.in_flight, ++now.all.queued, now.all.queued_tokens += 400;
    now.tenant = now.all;
  }
  EXPECT(ask(bounds, now, gamma, pace) == Refusal::kShare);

  pace.take_up_s = 0.1;
  now.all = {128, 64, 25600}, now.tenant = {}, now.rivals_weight = 1;
  Request acme = of(Priority::kInteractive, 1, 200);
  acme.weight = 2;
  EXPECT(std::abs(judge(bounds, now, pace, 0.5, acme).forecast.first_s - (0.1 * 1.5 + 0.01)) < 1e-9);
  pace.take_up_s = 0;
  EXPECT(std::abs(judge(bounds, now, pace, 0.5, acme).forecast.first_s - (0.0075 + 0.01)) < 1e-9);
  EXPECT(counted_before({1, 1, 10000}, {{{0, 0}, {0, 0}, {1, 10000}}}, Priority::kInteractive, 1, 200).queued_tokens == 12);
}

// At the pace that was measured, what was refused is let in after the time that it was told, and not long before.
static void come_again_is_honest() {
  std::mt19937 random(3);
  int told = 0;
  for (int round = 0; round < 20000; ++round) {
    const Bounds bounds{.sequences_max = 8, .waiting_max = 40, .waiting_tokens_max = 20000, .ttft_s = 3};
    const Pace pace{0.01, 500.0 + static_cast<double>(below(random, 500)), 0.1 + 0.01 * static_cast<double>(below(random, 100))};
    Standing now;
    const auto queued = below(random, 60);
    now.all = now.tenant = {8 + queued, queued, queued * 300};
    const Request request = of(kClasses[below(random, 3)], 1 + below(random, 4), 300);
    const Verdict verdict = judge(bounds, now, pace, 1.0, request);
    if (verdict.refusal == Refusal::kNone) continue;
    EXPECT(verdict.retry_after_s >= 1 && verdict.retry_after_s <= 60);
    if (verdict.retry_after_s <= 1 || verdict.retry_after_s >= 60) continue;
    const auto drained = [&](double seconds) {
      Standing later = now;
      const auto ended = std::min(queued, static_cast<std::int64_t>(seconds / pace.take_up_s + 1));
      const auto read = static_cast<std::int64_t>(seconds * pace.prefill_tokens_per_s + 1);
      later.all.in_flight -= ended, later.all.queued -= ended;
      later.all.queued_tokens = std::max<std::int64_t>(0, later.all.queued_tokens - read);
      later.tenant = later.all;
      return later;
    };
    const Refusal then = ask(bounds, drained(verdict.retry_after_s + 1e-6), request, pace);
    EXPECT(then == Refusal::kNone || then != verdict.refusal);  // another bound may be the next
    EXPECT(ask(bounds, drained(verdict.retry_after_s * 0.5 - 1), request, pace) != Refusal::kNone);
    ++told;
  }
  EXPECT(told > 1000);
}

static void nine_of_ten_first_tokens_come_after_what_is_certain_and_nineteen_of_twenty_before_what_is_enough() {
  for (const double bias : {0.2, 1.0, 1.5, 3.0}) {
    std::mt19937 random(4);
    std::lognormal_distribution<double> noise(std::log(bias), 0.5);
    Calibration calibration;
    int early = 0, late = 0;
    for (int i = 0; i < 20000; ++i) {
      const double actual_s = 2.0 * noise(random);
      const Ratio ratio = calibration.ratio();
      if (i >= 2000) early += actual_s < 2.0 * ratio.certain, late += actual_s > 2.0 * ratio.enough;
      calibration.note(2.0, actual_s);
    }
    EXPECT(early > 18000 * 0.08 && early < 18000 * 0.12);
    EXPECT(late > 18000 * 0.04 && late < 18000 * 0.06);
  }
  Calibration calibration;
  calibration.note(0, 1), calibration.note(1, -1), calibration.note(NAN, NAN);
  calibration.note(1, 5, 0.4);  // its own prompt: nothing was learnt of queues
  EXPECT(calibration.ratio().certain > 0.4 && calibration.ratio().certain < 0.6 && calibration.ratio().enough == 1);
}

static void whoever_is_behind_its_share_waits_for_nobody_until_it_has_caught_up() {
  const Pace pace{.step_s = 0.01, .prefill_tokens_per_s = 1000, .take_up_s = 0};
  Held all, tenant;
  tenant.queued = 2, tenant.queued_tokens = 500;
  all.queued = 20, all.queued_tokens = 50'000;
  const auto first_s = [&](std::int64_t lead) { return forecast(pace, all, tenant, 1, 3, 1, 500, lead).first_s; };
  EXPECT(std::abs(first_s(0) - 4.01) < 1e-9);     // a fourth of the pace
  EXPECT(std::abs(first_s(500) - 2.51) < 1e-9);   // half of it in front of all others
  EXPECT(std::abs(first_s(1000) - 1.01) < 1e-9);
  EXPECT(first_s(5000) == first_s(1000));
}

int main() {
  a_class_leaves_room_to_those_above_it();
  the_smallest_queue_is_one_for_every_class();
  one_that_floods_leaves_half_and_two_leave_a_third();
  a_tenant_that_is_alone_may_have_all_and_free_places_are_nobodys();
  what_would_never_be_let_in_is_known();
  whoever_holds_nothing_always_finds_room_beside_a_flood();
  a_higher_class_is_never_refused_where_a_lower_one_is_let_in();
  a_prompt_is_bounded_by_what_is_queued_and_never_by_itself();
  a_forecast_is_the_tenants_share_of_the_pace();
  a_lower_class_of_ones_own_counts_only_for_what_is_served_of_it_meanwhile();
  places_are_waited_for_only_while_all_are_taken();
  an_unknown_pace_forecasts_nothing_and_lets_in();
  a_deadline_that_is_out_of_reach_is_known_at_the_door();
  a_queue_beyond_the_objective_is_not_joined_but_a_long_prompt_alone_is_served();
  the_queue_leaves_room_for_the_prompt_but_not_for_more_than_half_the_objective();
  a_queue_that_takes_longer_than_forecast_is_let_grow_less();
  the_example_of_the_docs_holds();
  come_again_is_honest();
  whoever_is_behind_its_share_waits_for_nobody_until_it_has_caught_up();
  nine_of_ten_first_tokens_come_after_what_is_certain_and_nineteen_of_twenty_before_what_is_enough();
}
