// The bucket: a minute's worth, filled at its pace, and never spent twice however many spend.
#include <thread>
#include <vector>

#include "admission/bucket.hpp"
#include "expect.hpp"

using namespace aruntime::admission;

static constexpr std::int64_t kNow = 1'000'000 * kMinuteNs;

static void a_bucket_holds_a_minute_and_fills_at_its_pace() {
  std::atomic<std::int64_t> cell{0};
  for (int i = 0; i < 60; ++i) EXPECT(try_spend(cell, kNow, cost_ns(1, 60)) == 0);
  EXPECT(try_spend(cell, kNow, cost_ns(1, 60)) == 1'000'000'000);
  EXPECT(try_spend(cell, kNow + 1'000'000'000, cost_ns(1, 60)) == 0);
  EXPECT(try_spend(cell, kNow + 1'000'000'001, cost_ns(2, 60)) == 1'999'999'999);
  EXPECT(try_spend(cell, kNow + 10 * kMinuteNs, cost_ns(60, 60)) == 0);  // rest does not save up more than a minute
  EXPECT(try_spend(cell, kNow + 10 * kMinuteNs, cost_ns(1, 60)) > 0);
}

static void a_refund_is_exact_and_does_not_overfill() {
  std::atomic<std::int64_t> cell{0};
  EXPECT(try_spend(cell, kNow, cost_ns(1000, 1000)) == 0);
  refund(cell, cost_ns(1000, 1000) - cost_ns(300, 1000));
  EXPECT(try_spend(cell, kNow, cost_ns(701, 1000)) > 0);
  EXPECT(try_spend(cell, kNow, cost_ns(700, 1000)) == 0);
  refund(cell, 5 * kMinuteNs);
  EXPECT(level(cell.load(), kNow) == 1.0);
  EXPECT(try_spend(cell, kNow, kMinuteNs + 1) > 0);
}

static void a_moment_that_nobody_can_have_written_is_an_empty_bucket_now() {
  std::atomic<std::int64_t> cell{INT64_MAX};
  EXPECT(level(INT64_MAX, kNow) == 0.0);
  EXPECT(try_spend(cell, kNow, kMinuteNs / 2) == kMinuteNs / 2);
  cell = INT64_MIN / 2;
  EXPECT(try_spend(cell, kNow, kMinuteNs) == 0);
}

static void costs_round_up_and_do_not_overflow() {
  EXPECT(cost_ns(1, 7) == 8'571'428'572);
  EXPECT(cost_ns(7, 7) == kMinuteNs);
  EXPECT(cost_ns(INT64_MAX, 1) == INT64_MAX / 4);
}

// A cell whose exchange fails while somebody else spends in between: the loser sees it and spends no more than is left.
struct Contended {
  std::int64_t value = 0, stolen = 0;
  int thefts = 0;
  std::int64_t load(std::memory_order) const { return value; }
  bool compare_exchange_weak(std::int64_t& seen, std::int64_t after, std::memory_order) {
    if (thefts-- > 0) value = empty_ns(value, kNow) + stolen;
    if (value != seen) return seen = value, false;
    value = after;
    return true;
  }
};

static void who_loses_the_exchange_looks_again() {
  Contended cell{.stolen = kMinuteNs / 4, .thefts = 2};
  EXPECT(try_spend(cell, kNow, kMinuteNs / 2) == 0);
  EXPECT(cell.value == kNow);
  cell = {.stolen = kMinuteNs / 4, .thefts = 3};
  EXPECT(try_spend(cell, kNow, kMinuteNs / 2) == kMinuteNs / 4);
}

// Four threads spend, two of them give back at once what they had: at a moment that stands still, exactly the budget goes.
static void threads_never_spend_more_than_there_is() {
  constexpr std::int64_t kBudget = 100'000;
  std::atomic<std::int64_t> cell{0};
  std::atomic<std::int64_t> spent{0};
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      for (std::int64_t i = 0; try_spend(cell, kNow, cost_ns(1, kBudget)) == 0; ++i) {
        if (number % 2 && i < 20'000) {
          refund(cell, cost_ns(1, kBudget));
        } else {
          spent.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Whoever gave back last may have left some when the others had gone.
  while (try_spend(cell, kNow, cost_ns(1, kBudget)) == 0) spent.fetch_add(1, std::memory_order_relaxed);
  EXPECT(spent.load() == kBudget);
}

int main() {
  a_bucket_holds_a_minute_and_fills_at_its_pace();
  a_refund_is_exact_and_does_not_overfill();
  a_moment_that_nobody_can_have_written_is_an_empty_bucket_now();
  costs_round_up_and_do_not_overflow();
  who_loses_the_exchange_looks_again();
  threads_never_spend_more_than_there_is();
}
