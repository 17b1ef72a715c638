// Wakes a consumer that sleeps, at most once a sleep, and not at all while it is awake.
//
//   consumer   sleeping := 1 ; fence ; look at the ring once more ; poll(eventfd) ; sleeping := 0
//   producer   publish       ; fence ; if sleeping.exchange(0) then write(eventfd)
//
// The two sequentially consistent fences are Dekker's: either the producer sees the flag, or the consumer sees what was
// published. Without either of them a wake-up can be lost; tests/queue/ring.pml shows it. A producer killed between
// publish and ring leaves a message unannounced: the consumer finds it at its next turn, which its own heartbeat bounds.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace aruntime {

template <template <typename> class Atomic = std::atomic>
class Bell {
 public:
  // Consumer: from now on the peer rings. The caller looks at its ring once more before it sleeps.
  void prepare_sleep() noexcept {
    sleeping_.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  // Consumer: the peer need not ring.
  void awake() noexcept { sleeping_.store(0, std::memory_order_relaxed); }

  // Producer, after it has published: true when the consumer sleeps and nobody has rung yet.
  bool should_ring() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return sleeping_.load(std::memory_order_relaxed) != 0 && sleeping_.exchange(0, std::memory_order_acq_rel) != 0;
  }

 private:
  Atomic<std::uint32_t> sleeping_{0};
};

// Adds one to an eventfd. Its counter cannot overflow: a bell rings once a sleep.
inline void ring(int eventfd) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(eventfd, &one, sizeof one);
}

}  // namespace aruntime
