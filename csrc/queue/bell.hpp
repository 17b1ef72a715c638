// Wakes a consumer that sleeps, at most once a sleep, and not at all while it is awake.
//
//   consumer   sleeping := 1 ; fence ; look at the ring once more ; poll(eventfd) ; sleeping := 0
//   producer   publish       ; fence ; if sleeping.exchange(0) then write(eventfd)
//
// The two sequentially consistent fences are Dekker's: either the producer sees the flag, or the consumer sees what was
// published. Without either of them a wake-up can be lost. A producer killed between publish and ring leaves a message
// unannounced: the consumer finds it at its next turn, so every sleep needs a bound of its own.
// tests/queue/ring.pml is the model of all this.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace aruntime {

// An Atomic that replays interleavings has a fence of its own.
template <template <typename> class Atomic>
void full_fence() noexcept {
  if constexpr (requires { Atomic<std::uint32_t>::fence(); }) {
    Atomic<std::uint32_t>::fence();
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
}

// The flag in shared memory. The other process may write anything here: at worst it is rung for nothing, or not at all.
template <template <typename> class Atomic = std::atomic>
class Bell {
 public:
  // Consumer: from now on the peer rings. False: `ring` has something to read, and no bell was asked for.
  template <typename Ring>
  bool prepare_sleep(Ring& ring) noexcept {
    sleeping_.store(1, std::memory_order_relaxed);
    full_fence<Atomic>();
    if (ring.empty()) return true;
    awake();
    return false;
  }

  // Consumer: the peer need not ring.
  void awake() noexcept { sleeping_.store(0, std::memory_order_relaxed); }

  // Producer, after it has published: true when the consumer sleeps and nobody has rung yet.
  bool should_ring() noexcept {
    full_fence<Atomic>();
    return sleeping_.load(std::memory_order_relaxed) != 0 && sleeping_.exchange(0, std::memory_order_relaxed) != 0;
  }

 private:
  Atomic<std::uint32_t> sleeping_{0};
};

// A duplicate of the eventfd that wakes the peer.
class BellRope {
 public:
  // Throws std::invalid_argument when `eventfd` is not an open descriptor.
  explicit BellRope(int eventfd) : fd_(::fcntl(eventfd, F_DUPFD_CLOEXEC, 0)) {
    if (fd_ < 0) throw std::invalid_argument("the bell is not an open descriptor");
  }
  BellRope(const BellRope&) = delete;
  BellRope& operator=(const BellRope&) = delete;
  ~BellRope() { ::close(fd_); }

  void ring() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);  // a full counter wakes as well
  }

 private:
  int fd_;
};

}  // namespace aruntime
