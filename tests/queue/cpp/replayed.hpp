// An Atomic that replays the interleavings of two threads, and the memory orders they may see, from a seed.
//
// Source: the view machines of Kang et al., "A Promising Semantics for Relaxed-Memory Concurrency" (POPL 2017), without
// promises. Every store of a location is kept. A thread has a view: how old a store it may still read. A load picks any
// store that is not older; reading a release store with acquire joins the views. A full fence meets all earlier fences.
// Plain records carry clocks, so an access that no release and acquire put in order is a race, whatever x86 would do.
#pragma once

#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "expect.hpp"

namespace replay {

inline constexpr int kThreads = 2;
inline constexpr int kLocations = 8;
inline constexpr int kStepsMax = 20'000;

struct View {
  std::array<std::uint32_t, kLocations> oldest{};  // of each location, the oldest store that may be read
  std::array<std::uint32_t, kThreads> clock{};     // of each thread, how far its plain accesses are known

  void join(const View& other) noexcept {
    for (int i = 0; i < kLocations; ++i) oldest[i] = std::max(oldest[i], other.oldest[i]);
    for (int i = 0; i < kThreads; ++i) clock[i] = std::max(clock[i], other.clock[i]);
  }
};

struct Store {
  std::uint64_t value;
  View published;  // what a load with acquire learns
};

struct Thread {
  View view;
  View unfenced;  // what relaxed loads have read, learnt at the next fence
  View fenced;    // what relaxed stores publish
  ucontext_t context{};
  std::vector<std::byte> stack = std::vector<std::byte>(64 * 1024);
  bool ended = false;
};

// Two threads, taken turn by turn in one. One world at a time.
class World {
 public:
  static World& here() { return *here_; }

  explicit World(std::uint64_t seed) : random_(seed) { here_ = this; }
  ~World() { here_ = nullptr; }

  // Runs both to their ends.
  void run(std::function<void()> first, std::function<void()> second) {
    bodies_ = {std::move(first), std::move(second)};
    for (int i = 0; i < kThreads; ++i) {
      Thread& thread = threads_[i];
      thread.view.clock[i] = 1;
      getcontext(&thread.context);
      thread.context.uc_stack = {.ss_sp = thread.stack.data(), .ss_flags = 0, .ss_size = thread.stack.size()};
      thread.context.uc_link = nullptr;
      makecontext(&thread.context, &World::enter, 0);
    }
    started_ = true;
    swapcontext(&outside_, &me().context);
    started_ = false;
  }

  // Lets the other thread go on, if there is one.
  void yield() {
    EXPECT(++steps_ < kStepsMax);
    if (threads_[1 - now_].ended) return;
    now_ = 1 - now_;
    swapcontext(&threads_[1 - now_].context, &threads_[now_].context);
  }

  // Goes on only when `ready`. Nobody left to make it so is a lost wake-up.
  void wait(const std::function<bool()>& ready) {
    while (!ready()) {
      EXPECT(!threads_[1 - now_].ended);
      yield();
    }
  }

  int create(std::uint64_t value) {
    EXPECT(stores_.size() < kLocations);
    stores_.push_back({{value, {}}});
    return static_cast<int>(stores_.size()) - 1;
  }

  std::uint64_t load(int location, std::memory_order order) {
    step();
    const auto& stores = stores_[location];
    auto at = static_cast<std::uint32_t>(stores.size()) - 1;
    while (at > me().view.oldest[location] && random_() % 2) --at;
    me().view.oldest[location] = at;
    (order == std::memory_order_relaxed ? me().unfenced : me().view).join(stores[at].published);
    return stores[at].value;
  }

  void store(int location, std::uint64_t value, std::memory_order order) {
    step();
    append(location, value, order, {});
  }

  std::uint64_t exchange(int location, std::uint64_t value, std::memory_order order) {
    step();
    const Store last = stores_[location].back();
    append(location, value, order, last.published);  // it goes on with what the last store published
    me().unfenced.join(last.published);
    return last.value;
  }

  void fence() {
    step();
    me().view.join(me().unfenced);
    me().view.join(all_fences_);
    all_fences_ = me().fenced = me().view;
  }

  // A plain access: `known` is the clock of the other's last access that must be in order before it.
  void expect_ordered(const std::array<std::uint32_t, kThreads>& known) {
    if (started_) EXPECT(known[1 - now_] <= me().view.clock[1 - now_]);
  }
  void mark(std::array<std::uint32_t, kThreads>& access) {
    if (started_) access[now_] = me().view.clock[now_];
  }
  void step() {
    if (started_ && random_() % 2) yield();
  }

 private:
  static void enter() {
    World& world = here();
    world.bodies_[world.now_]();
    Thread& thread = world.me();
    thread.ended = true;
    world.now_ = 1 - world.now_;
    swapcontext(&thread.context, world.me().ended ? &world.outside_ : &world.me().context);
  }

  Thread& me() { return threads_[now_]; }

  void append(int location, std::uint64_t value, std::memory_order order, View published) {
    auto& stores = stores_[location];
    me().view.oldest[location] = static_cast<std::uint32_t>(stores.size());
    published.join(order == std::memory_order_release ? me().view : me().fenced);
    stores.push_back({value, published});
    ++me().view.clock[now_];  // what comes now is later than what was published
  }

  inline static World* here_ = nullptr;
  std::mt19937_64 random_;
  std::array<Thread, kThreads> threads_;
  std::array<std::function<void()>, kThreads> bodies_;
  std::vector<std::vector<Store>> stores_;
  View all_fences_;
  ucontext_t outside_{};
  int now_ = 0;
  int steps_ = 0;
  bool started_ = false;
};

template <typename T>
class Replayed {
 public:
  Replayed(T value) : location_(World::here().create(value)) {}
  T load(std::memory_order order) { return static_cast<T>(World::here().load(location_, order)); }
  void store(T value, std::memory_order order) { World::here().store(location_, value, order); }
  T exchange(T value, std::memory_order order) {
    return static_cast<T>(World::here().exchange(location_, value, order));
  }
  static void fence() { World::here().fence(); }

 private:
  int location_;
};

// A plain number that knows who touched it when.
class Plain {
 public:
  Plain(std::uint64_t value = 0) : value_(value) {}
  Plain(const Plain& other) : value_(other.read()) {}
  Plain& operator=(const Plain& other) {
    const std::uint64_t value = other.read();
    World& world = World::here();
    world.step();
    world.expect_ordered(written_);
    world.expect_ordered(read_);
    world.mark(written_);
    value_ = value;
    return *this;
  }
  std::uint64_t read() const {
    World& world = World::here();
    world.step();
    world.expect_ordered(written_);
    world.mark(read_);
    return value_;
  }

 private:
  std::uint64_t value_;
  std::array<std::uint32_t, kThreads> written_{};
  mutable std::array<std::uint32_t, kThreads> read_{};
};

}  // namespace replay
