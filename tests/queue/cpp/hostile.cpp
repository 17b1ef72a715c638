// A peer that writes anything anywhere in the channel's file, for AddressSanitizer: once, and while it is being read.
//
//   hostile FIRST_SEED SEEDS
//
// The file is mapped between pages that nobody may touch, and what is left of its last page is poisoned: one byte read
// or written outside the file ends the program. Prints how many malformed messages were refused.
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

inline const std::size_t kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
inline std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void* fenced_mmap(void*, std::size_t bytes, int protection, int flags, int fd, off_t offset) {
  void* fence = ::mmap(nullptr, whole_pages(bytes) + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fence == MAP_FAILED) return MAP_FAILED;
  auto* place = static_cast<std::byte*>(fence) + kPage;
  void* mapped = ::mmap(place, bytes, protection, flags | MAP_FIXED, fd, offset);
  ASAN_POISON_MEMORY_REGION(place + bytes, whole_pages(bytes) - bytes);
  return mapped;
}

int fenced_munmap(void* place, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(place, whole_pages(bytes));
  return ::munmap(static_cast<std::byte*>(place) - kPage, whole_pages(bytes) + 2 * kPage);
}

#define mmap fenced_mmap
#define munmap fenced_munmap
#include "queue/mapping.hpp"
#undef mmap
#undef munmap

#include <atomic>
#include <functional>
#include <random>
#include <thread>

#include "talk.hpp"

using namespace talk;

constexpr std::uint32_t kCells = 32;
constexpr std::uint32_t kOutputs = 16;
constexpr std::uint32_t kResults = 16;

// Numbers that hurt: borders of the rings, of the types, and small changes of what is there.
std::uint32_t word(std::mt19937_64& random, std::uint32_t was) {
  constexpr std::uint32_t kBorders[] = {0,  1,  2,  5,  6,  15, 16, 17,
                                        31, 32, 33, 63, 64, 1u << 30, 1u << 31, ~0u};
  switch (random() % 4) {
    case 0: return kBorders[random() % std::size(kBorders)];
    case 1: return was + 1;
    case 2: return was - 1;
    default: return static_cast<std::uint32_t>(random());
  }
}

void write(const Channel& channel, std::size_t at, std::mt19937_64& random) {
  auto* file = reinterpret_cast<std::byte*>(&channel.header());
  const std::atomic_ref<std::uint32_t> place(*reinterpret_cast<std::uint32_t*>(file + at));
  place.store(word(random, place.load(std::memory_order_relaxed)), std::memory_order_relaxed);
}

// Overwrites a word of an index or a flag, a word of a cell or a record, or a cell by a head that agrees with itself.
void scribble(const Channel& channel, std::mt19937_64& random) {
  constexpr std::size_t kLines = sizeof(ChannelHeader) / kCacheLine;  // the first is what `open` has checked
  const std::size_t end = channel_bytes(kCells, kOutputs, kResults);
  switch (random() % 4) {
    case 0: return write(channel, (1 + random() % (kLines - 1)) * kCacheLine + random() % 2 * 4, random);
    case 1: return write(channel, (sizeof(ChannelHeader) + random() % (end - sizeof(ChannelHeader))) / 4 * 4, random);
    case 2: {
      ResultHead head;
      head.bytes = random() % 2 ? word(random, 0) : kResults * kCellBytes;
      head.cells = result_cells_of(head.bytes);
      std::memcpy(channel.results() + random() % kResults, &head, kCellBytes);
      return;
    }
  }
  SubmitHead head;
  head.prompt_tokens = random() % 2 ? word(random, 0) : kCells * kTokensPerCell;
  head.payload_bytes = random() % 2 ? word(random, 0) : kCells * kCellBytes;
  head.cells = cells_of(head.prompt_tokens, head.payload_bytes);
  std::memcpy(channel.cells() + random() % kCells, &head, kCellBytes);
}

// Each end does all it can; every answer is within its bounds, and every loop ends.
void turn(FrontEndEnd& front_end, EngineEnd& engine, std::uint32_t n, const std::function<void()>& attack) {
  Message message;
  for (std::uint32_t i = 0; i < 3; ++i) try_say(front_end, n + i);
  EXPECT(front_end.submit_room() <= kCells);
  attack();
  engine.prepare_sleep();
  for (std::uint32_t i = 0; i <= kCells; ++i) {
    const Received received = engine.receive(message);
    if (received == Received::kNothing) break;
    if (received != Received::kSubmit) continue;
    EXPECT(message.prompt.size() == message.head.prompt_tokens && message.head.stop_tokens <= kStopTokensMax);
    EXPECT(message.prompt.size() <= std::size_t{kCells - kSubmitHeadCells} * kTokensPerCell);
    EXPECT(!message.prompt.empty());
    EXPECT(message.payload.size() == message.head.payload_bytes && message.payload.size() <= kCells * kCellBytes);
  }
  const OutputRecord sent[3] = {output_of(n), output_of(n + 1), output_of(n + 2)};
  EXPECT(engine.send(sent, 3) <= 3);
  for (std::uint32_t i = 0; i < 3; ++i) try_answer(engine, n + i);
  engine.ring_bell();
  attack();
  OutputRecord taken[kOutputs];
  const std::uint32_t count = front_end.take(taken, kOutputs);
  EXPECT(count <= kOutputs);
  for (std::uint32_t i = 0; i < count; ++i) EXPECT(taken[i].finish <= FinishReason::kGrammar);
  Result result;
  for (std::uint64_t left = front_end.result_cells(); left > 0 && front_end.take_result(result);) {
    EXPECT(result.bytes.size() == result.head.bytes && result.bytes.size() < kResults * kCellBytes);
    left -= std::min<std::uint64_t>(left, result.head.cells);
  }
  EXPECT(front_end.result_cells() <= kResults);
  front_end.prepare_sleep();
}

std::uint64_t run_seed(std::uint64_t seed, bool while_read) {
  std::mt19937_64 random(seed);
  const Line line(seed, kCells, kOutputs, kResults);
  const Channel hand(line.file, line.epoch);
  FrontEndEnd front_end(line.file, line.engine_bell, line.epoch);
  EngineEnd engine(line.file, line.front_end_bell, line.epoch);
  std::atomic<bool> over = false;
  std::thread scribbler;
  if (while_read) {
    scribbler = std::thread([&] {
      std::mt19937_64 own(seed);
      while (!over) scribble(hand, own);
    });
  }
  const auto attack = [&] {
    if (!while_read) scribble(hand, random);
  };
  for (std::uint32_t n = 0; n < 200; ++n) turn(front_end, engine, n, attack);
  over = true;
  if (scribbler.joinable()) scribbler.join();
  return engine.refused() + front_end.refused();
}

int main(int, char** arguments) {
  const unsigned long first = std::strtoul(arguments[1], nullptr, 10);
  const unsigned long seeds = std::strtoul(arguments[2], nullptr, 10);
  std::uint64_t refused = 0;
  for (run_number = first; run_number < first + seeds; ++run_number) {
    refused += run_seed(run_number, run_number % 4 == 0);
  }
  EXPECT(refused > seeds);
  std::printf("%lu\n", static_cast<unsigned long>(refused));
}
