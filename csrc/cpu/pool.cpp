#include "cpu/pool.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace aruntime::cpu {
namespace {

// Longer than the pause between two operations of a step, shorter than the one between two steps of a quiet server.
constexpr std::chrono::microseconds kSpin{50};

void pause_core() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Waits for `done()` without the kernel's help, kSpin long at most; says whether it came.
template <class Done>
bool spin_until(Done done) noexcept {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int pause = 0; pause < 8; ++pause) {
      if (done()) return true;
      pause_core();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  return false;
}

class Pool {
 public:
  int threads() const noexcept { return threads_; }

  void resize(int threads) {
    const std::lock_guard lock(busy_);
    stop_workers();
    try {
      start_workers(threads - 1);
    } catch (...) {
      stop_workers();
      throw;
    }
  }

  void run(std::int64_t chunks, ChunkFunction function, void* context) noexcept {
    const std::unique_lock lock(busy_, std::try_to_lock);
    if (chunks <= 1 || !lock.owns_lock() || workers_.empty()) {
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) function(context, chunk);
      return;
    }
    function_ = function;
    context_ = context;
    done_.store(0, std::memory_order_relaxed);
    remaining_.store(chunks, std::memory_order_seq_cst);
    jobs_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) jobs_.notify_all();
    take_chunks();
    while (!spin_until([&] { return done_.load(std::memory_order_acquire) == chunks; })) std::this_thread::yield();
  }

  // After fork the child has one thread, and goes on with one: the workers' handles name threads that are not here,
  // so they are leaked, being neither joinable nor destructible.
  void forget_workers() noexcept {
    new (&workers_) std::vector<std::thread>();
    new (&busy_) std::mutex();
    threads_ = 1;
    remaining_.store(0);
    sleepers_.store(0);
  }

 private:
  // A late worker's fetch_sub on a spent job leaves a negative count that the next job's store overwrites, and on the
  // next job's count takes a chunk of it, whose description its acquire has made visible: no epoch is needed.
  void take_chunks() noexcept {
    for (std::int64_t chunk; (chunk = remaining_.fetch_sub(1, std::memory_order_acq_rel) - 1) >= 0;) {
      function_(context_, chunk);
      done_.fetch_add(1, std::memory_order_release);
    }
  }

  void work() noexcept {
    while (!stopping_.load(std::memory_order_acquire)) {
      take_chunks();
      if (!spin_until([this] { return remaining_.load(std::memory_order_relaxed) > 0; })) sleep();
    }
  }

  // The caller stores `remaining`, then reads `sleepers`; here the other way round: one of the two sees the other.
  void sleep() noexcept {
    const std::uint32_t seen = jobs_.load(std::memory_order_seq_cst);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (remaining_.load(std::memory_order_seq_cst) <= 0 && !stopping_.load(std::memory_order_seq_cst)) jobs_.wait(seen);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

  void start_workers(int count) {
    stopping_.store(false);
    for (int worker = 0; worker < count; ++worker) workers_.emplace_back([this] { work(); });
    threads_ = count + 1;
  }

  void stop_workers() {
    stopping_.store(true);
    jobs_.fetch_add(1);
    jobs_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    threads_ = 1;
  }

  std::mutex busy_;
  std::atomic<int> threads_{1};
  std::vector<std::thread> workers_;
  ChunkFunction function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleepers_{0};
  std::atomic<std::uint32_t> jobs_{0};
  alignas(64) std::atomic<std::int64_t> remaining_{0};
  alignas(64) std::atomic<std::int64_t> done_{0};
};

// Never destroyed: at exit the workers sleep in it, and the process ends under them.
Pool& pool() {
  static Pool& instance = *[] {
    pthread_atfork(nullptr, nullptr, [] { pool().forget_workers(); });
    return new Pool();
  }();
  return instance;
}

}  // namespace

void set_threads(int threads) { pool().resize(threads); }
int threads() noexcept { return pool().threads(); }

void run_chunks(std::int64_t chunks, ChunkFunction function, void* context) noexcept {
  pool().run(chunks, function, context);
}

void* scratch(std::int64_t bytes) {
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local std::int64_t held = 0;
  if (bytes > held) {
    held = (bytes + 4095) / 4096 * 4096;
    memory.reset(std::aligned_alloc(64, static_cast<std::size_t>(held)));
    if (!memory) throw std::bad_alloc();
  }
  return memory.get();
}

}  // namespace aruntime::cpu
