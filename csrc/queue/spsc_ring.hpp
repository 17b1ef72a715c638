// Single-producer, single-consumer ring of fixed records in memory that two processes share.
//
// Source: Lamport 1977; cached indices as in rigtorp/SPSCQueue. The producer owns `tail`, the consumer owns `head`; each
// reads the other's index only when its cached copy says full or empty.
// Orders: the release store of `tail` publishes everything written before it; the acquire load on the other side
// receives it. A message of many records is published by one store: a producer killed at any instruction has published
// whole messages only, and there is nothing to repair.
// Progress: both sides are wait-free. A dead peer leaves the ring full or empty, never locked.
//
// The indices are the other process's words. A reader takes no more than the ring can hold, whatever they say.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace aruntime {

inline constexpr std::size_t kCacheLine = 64;

// What both processes see of one ring, followed in memory by its records. Indices grow for ever; a place is index
// modulo capacity, which is a power of two.
template <template <typename> class Atomic = std::atomic>
struct RingHeader {
  alignas(kCacheLine) Atomic<std::uint64_t> tail{0};
  alignas(kCacheLine) Atomic<std::uint64_t> head{0};
};
static_assert(sizeof(RingHeader<>) == 2 * kCacheLine, "head and tail on lines of their own");
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock in shared memory would outlive its owner");

template <typename Record, template <typename> class Atomic = std::atomic>
class RingProducer {
 public:
  RingProducer() = default;
  RingProducer(RingHeader<Atomic>* header, Record* records, std::uint64_t capacity) noexcept
      : header_(header), records_(records), capacity_(capacity), tail_(header->tail.load(std::memory_order_relaxed)) {}

  // Copies all of `records` in, or nothing. Returns false when there is not room for all.
  bool try_push(std::span<const Record> records) noexcept {
    if (room() < records.size()) return false;
    for (const Record& record : records) records_[tail_++ & (capacity_ - 1)] = record;
    header_->tail.store(tail_, std::memory_order_release);
    return true;
  }
  bool try_push(const Record& record) noexcept { return try_push(std::span(&record, 1)); }

  // Records that a push may hold now. More may be freed at any time, never less.
  std::uint64_t room() noexcept {
    head_ = header_->head.load(std::memory_order_acquire);
    const std::uint64_t used = tail_ - head_;
    return used <= capacity_ ? capacity_ - used : 0;  // a lying head makes the ring full
  }

 private:
  RingHeader<Atomic>* header_ = nullptr;
  Record* records_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t tail_ = 0;
  std::uint64_t head_ = 0;
};

template <typename Record, template <typename> class Atomic = std::atomic>
class RingConsumer {
 public:
  RingConsumer() = default;
  RingConsumer(RingHeader<Atomic>* header, const Record* records, std::uint64_t capacity) noexcept
      : header_(header), records_(records), capacity_(capacity), head_(header->head.load(std::memory_order_relaxed)) {}

  // Records that are there to read. A tail that claims more than the ring can hold is reported by `lies`, and read as
  // nothing.
  std::uint64_t published() noexcept {
    tail_ = header_->tail.load(std::memory_order_acquire);
    return lies() ? 0 : tail_ - head_;
  }
  bool lies() const noexcept { return tail_ - head_ > capacity_; }

  // Copies record `offset` of those published. The producer must not be trusted to leave it unchanged: read it once.
  Record peek(std::uint64_t offset) const noexcept { return records_[(head_ + offset) & (capacity_ - 1)]; }

  // Gives the room of `count` records back to the producer.
  void release(std::uint64_t count) noexcept {
    head_ += count;
    header_->head.store(head_, std::memory_order_release);
  }

  // Forgets all that was published, lies included.
  void resynchronise() noexcept {
    head_ = tail_;
    header_->head.store(head_, std::memory_order_release);
  }

 private:
  RingHeader<Atomic>* header_ = nullptr;
  const Record* records_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
};

}  // namespace aruntime
