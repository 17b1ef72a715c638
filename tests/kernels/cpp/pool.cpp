// Every chunk of every job runs once, whoever calls, while callers compete and threads come and go. Under ThreadSanitizer
// the plain counters also show that what a chunk writes is visible to the caller when its job has ended.
#include "cpu/pool.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace cpu = aruntime::cpu;

void jobs(int count, int chunks) {
  std::vector<int> runs(chunks);
  for (int job = 1; job <= count; ++job) {
    cpu::parallel(chunks, [&](std::int64_t chunk) { ++runs[chunk]; });
    for (const int run : runs) {
      if (run != job) std::printf("chunks %d, job %d: a chunk ran %d times\n", chunks, job, run), std::exit(1);
    }
  }
}

int main() {
  for (const int threads : {1, 2, 4}) {
    cpu::set_threads(threads);
    jobs(2000, 7);
  }
  std::vector<std::thread> callers;
  for (const int chunks : {1, 3, 50}) callers.emplace_back(jobs, 1000, chunks);
  for (int turn = 0; turn < 50; ++turn) cpu::set_threads(1 + turn % 4);
  for (std::thread& caller : callers) caller.join();
  cpu::set_threads(1);
}
