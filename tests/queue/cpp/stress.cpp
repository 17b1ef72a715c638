// A ring and its bell between two real threads, for ThreadSanitizer: messages of 1 to 9 cells, sleeps that must end,
// and no more rings than sleeps.
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "queue/bell.hpp"
#include "queue/spsc_ring.hpp"

constexpr std::uint64_t kCapacity = 32;
constexpr int kWakeMs = 10'000;  // a lost wake-up is never this late by chance

using Cell = std::array<std::uint64_t, 8>;

struct Shared {
  aruntime::RingHeader<> header;
  aruntime::Bell<> bell;
  std::array<Cell, kCapacity> cells{};
};

std::uint64_t cells_of(std::uint64_t message) { return 1 + message * 7 % 9; }

void produce(Shared& shared, int eventfd, std::uint64_t messages) {
  aruntime::RingProducer<Cell> ring(&shared.header, shared.cells.data(), kCapacity);
  aruntime::BellRope rope(eventfd);
  std::vector<Cell> cells;
  for (std::uint64_t message = 0; message < messages; ++message) {
    cells.assign(cells_of(message), Cell{});
    for (std::uint64_t i = 0; i < cells.size(); ++i) cells[i].fill(message * 16 + i);
    while (!ring.try_push(cells)) std::this_thread::yield();
    if (shared.bell.should_ring()) rope.ring();
  }
}

std::uint64_t rings_after_sleep(int eventfd) {
  pollfd waited{.fd = eventfd, .events = POLLIN, .revents = 0};
  EXPECT(::poll(&waited, 1, kWakeMs) == 1);
  std::uint64_t rings = 0;
  EXPECT(::read(eventfd, &rings, sizeof rings) == sizeof rings);
  return rings;
}

void consume(Shared& shared, int eventfd, std::uint64_t messages) {
  aruntime::RingConsumer<Cell> ring(&shared.header, shared.cells.data(), kCapacity);
  std::array<Cell, 9> cells;
  std::uint64_t sleeps = 0;
  std::uint64_t rings = 0;
  for (std::uint64_t message = 0;;) {
    while (const std::uint64_t published = ring.published()) {
      const std::uint64_t count = cells_of(message);
      EXPECT(count <= published);
      ring.copy_out(0, std::span(cells.data(), count));
      ring.release(count);
      for (std::uint64_t i = 0; i < count; ++i) {
        EXPECT(std::ranges::all_of(cells[i], [&](std::uint64_t word) { return word == message * 16 + i; }));
      }
      ++message;
    }
    EXPECT(!ring.lies());
    if (message == messages) break;
    ++sleeps;
    if (shared.bell.prepare_sleep(ring)) {
      rings += rings_after_sleep(eventfd);
      EXPECT(rings <= sleeps);
      shared.bell.awake();
    }
  }
}

int main(int, char** arguments) {
  const std::uint64_t messages = std::strtoull(arguments[1], nullptr, 10);
  Shared shared;
  const int eventfd = ::eventfd(0, EFD_CLOEXEC);
  std::thread producer(produce, std::ref(shared), eventfd, messages);
  consume(shared, eventfd, messages);
  producer.join();
}
