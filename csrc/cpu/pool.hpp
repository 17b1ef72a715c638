// A small pool of threads for the kernels: one job at a time, cut into chunks that whoever is awake takes.
//
//   caller     writes the job, stores `remaining` (release), wakes sleepers, takes chunks itself, waits for `done`
//   worker     takes a chunk by remaining.fetch_sub(1) > 0, runs it, counts it in `done`; spins a little, then sleeps
//
// A caller never waits for a worker to wake: chunks that nobody took it does itself, so a short job costs no wake-up
// and a preempted core delays only the chunk that it already holds. Idle workers sleep in the kernel (futex).
// A chunk's result may not depend on who runs it; every operation here computes each output in one chunk.
#pragma once

#include <cstdint>

namespace aruntime::cpu {

// At most `threads` threads compute at any time, the caller included. Ends or starts workers; 1 <= threads <= 256.
// Waits for a job that another thread is running.
void set_threads(int threads);
int threads() noexcept;

// A buffer of at least `bytes`, 64-byte aligned, of the calling thread: kept and reused, valid until its next call.
void* scratch(std::int64_t bytes);

using ChunkFunction = void (*)(void* context, std::int64_t chunk);

// Runs function(context, chunk) for every chunk in [0, chunks), and returns when all have ended.
// Alone on the caller's thread if another thread's job holds the pool.
void run_chunks(std::int64_t chunks, ChunkFunction function, void* context) noexcept;

namespace {
template <class Function>
void parallel(std::int64_t chunks, Function&& function) {
  run_chunks(chunks, [](void* context, std::int64_t chunk) { (*static_cast<Function*>(context))(chunk); }, &function);
}
}  // namespace

}  // namespace aruntime::cpu
