// Every chunk of every job runs once, whoever calls, while callers compete and threads come and go. Under ThreadSanitizer
// the plain counters also show that what a chunk writes is visible to the caller when its job has ended.
#include "cpu/pool.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>
#include <vector>

namespace cpu = aruntime::cpu;

void jobs(int count, int chunks) {
  std::vector<int> runs(chunks);
  for (int job = 1; job <= count; ++job) {
    cpu::parallel(chunks, [&](std::int64_t chunk) {
      for (int work = 0; work < 100; ++work) asm volatile("");  // long enough for others to come
      ++runs[chunk];
    });
    for (const int run : runs) {
      if (run != job) std::printf("chunks %d, job %d: a chunk ran %d times\n", chunks, job, run), std::exit(1);
    }
  }
}

// Workers that fell asleep are woken: chunks that wait run on all of them.
void sleepers() {
  using namespace std::chrono_literals;
  std::this_thread::sleep_for(20ms);
  std::vector<std::thread::id> ran(12);
  cpu::parallel(12, [&](std::int64_t chunk) {
    ran[chunk] = std::this_thread::get_id();
    std::this_thread::sleep_for(20ms);
  });
  const std::size_t threads = std::set(ran.begin(), ran.end()).size();
  if (threads != 4) std::printf("%zu of 4 threads took part\n", threads), std::exit(1);
}

int main() {
  for (const int threads : {1, 2, 4}) {
    cpu::set_threads(threads);
    jobs(2000, 7);
  }
  sleepers();
  std::vector<std::thread> callers;
  for (const int chunks : {1, 3, 50}) callers.emplace_back(jobs, 1000, chunks);
  for (int turn = 0; turn < 50; ++turn) cpu::set_threads(1 + turn % 4);
  for (std::thread& caller : callers) caller.join();
  cpu::set_threads(1);
}
