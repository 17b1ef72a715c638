// Many seeds of the ring and its bell between two threads, under every order that C++ allows them to see.
#include <array>
#include <span>

#include "queue/bell.hpp"
#include "queue/spsc_ring.hpp"
#include "replayed.hpp"

using replay::Plain;
using replay::Replayed;
using replay::World;

constexpr std::uint64_t kCapacity = 4;
constexpr std::uint64_t kMessages = 6;

struct Shared {
  aruntime::RingHeader<Replayed> header;
  aruntime::Bell<Replayed> bell;
  std::array<Plain, kCapacity> records;
  int eventfd = 0;
  int rings = 0;
  int sleeps = 0;
};

// Message n is 1 to 3 records, each n * 8 + how many of it are left.
std::uint64_t records_of(std::uint64_t message) { return 1 + message % 3; }

void produce(Shared& shared) {
  aruntime::RingProducer<Plain, Replayed> ring(&shared.header, shared.records.data(), kCapacity);
  for (std::uint64_t message = 1; message <= kMessages; ++message) {
    std::array<Plain, 3> records;
    const std::uint64_t count = records_of(message);
    for (std::uint64_t i = 0; i < count; ++i) records[i] = Plain(message * 8 + count - i);
    while (!ring.try_push(std::span<const Plain>(records.data(), count))) World::here().yield();
    if (!shared.bell.should_ring()) continue;
    ++shared.rings;
    EXPECT(shared.rings <= shared.sleeps);
    World::here().step();
    ++shared.eventfd;
  }
}

void consume(Shared& shared) {
  aruntime::RingConsumer<Plain, Replayed> ring(&shared.header, shared.records.data(), kCapacity);
  std::uint64_t message = 0;
  while (message < kMessages) {
    while (const std::uint64_t published = ring.published()) {
      const std::uint64_t count = records_of(++message);
      EXPECT(count <= published);
      std::array<Plain, 3> records;
      ring.copy_out(0, std::span(records.data(), count));
      for (std::uint64_t i = 0; i < count; ++i) EXPECT(records[i].read() == message * 8 + count - i);
      ring.release(count);
    }
    EXPECT(!ring.lies());
    if (message == kMessages) break;
    ++shared.sleeps;
    if (shared.bell.prepare_sleep(ring)) {
      World::here().wait([&] { return shared.eventfd > 0; });
      shared.eventfd = 0;
      shared.bell.awake();
    }
  }
  EXPECT(ring.empty());
}

int main(int, char** arguments) {
  const unsigned long first = std::strtoul(arguments[1], nullptr, 10);
  const unsigned long seeds = std::strtoul(arguments[2], nullptr, 10);
  for (run_number = first; run_number < first + seeds; ++run_number) {
    World world(run_number);
    Shared shared;
    world.run([&] { produce(shared); }, [&] { consume(shared); });
  }
}
