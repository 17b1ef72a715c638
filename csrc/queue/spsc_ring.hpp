// Single-producer, single-consumer ring of fixed records in memory that two processes share.
//
// Source: Lamport 1977; cached indices as in rigtorp/SPSCQueue. The producer owns `tail`, the consumer owns `head`;
// each reads the other's index only when its cached copy says full or empty.
// Orders: the release store of `tail` publishes everything written before it; the acquire load on the other side
// receives it. The release store of `head` gives places back in the same way. A message of many records is published by
// one store: a producer killed at any instruction has published whole messages only, and there is nothing to repair.
// Progress: both sides are wait-free. A dead peer leaves the ring full or empty, never locked.
//
// The indices are the other process's words. Neither side goes beyond the ring's capacity, whatever they say.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace aruntime {

inline constexpr std::size_t kCacheLine = 64;

// What both processes see of one ring, beside its records. Indices grow for ever; a record's place is its index modulo
// capacity, which is a power of two.
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
  RingProducer(RingHeader<Atomic>* header, Record* records, std::uint64_t capacity) noexcept
      : header_(header),
        records_(records),
        capacity_(capacity),
        tail_(header->tail.load(std::memory_order_relaxed)),
        head_(header->head.load(std::memory_order_acquire)) {}

  // Copies all of `records` in, or nothing. Returns false when there is not room for all.
  bool try_push(std::span<const Record> records) noexcept {
    if (room_known() < records.size() && room() < records.size()) return false;
    const std::uint64_t place = tail_ & (capacity_ - 1);
    const std::uint64_t before_end = std::min<std::uint64_t>(records.size(), capacity_ - place);
    std::copy_n(records.data(), before_end, records_ + place);
    std::copy_n(records.data() + before_end, records.size() - before_end, records_);
    tail_ += records.size();
    header_->tail.store(tail_, std::memory_order_release);
    return true;
  }

  // Records that a push may hold now. More may be freed at any time, never fewer.
  std::uint64_t room() noexcept {
    head_ = header_->head.load(std::memory_order_acquire);
    return room_known();
  }

 private:
  std::uint64_t room_known() const noexcept {
    const std::uint64_t used = tail_ - head_;
    return used <= capacity_ ? capacity_ - used : 0;  // a lying head makes the ring full
  }

  RingHeader<Atomic>* header_;
  Record* records_;
  std::uint64_t capacity_;
  std::uint64_t tail_;
  std::uint64_t head_;  // as last seen
};

template <typename Record, template <typename> class Atomic = std::atomic>
class RingConsumer {
 public:
  RingConsumer(RingHeader<Atomic>* header, const Record* records, std::uint64_t capacity) noexcept
      : header_(header),
        records_(records),
        capacity_(capacity),
        head_(header->head.load(std::memory_order_relaxed)),
        tail_(head_) {}

  // Records that are known to be there; looks for more only when there were none. A tail that claims more than the ring
  // can hold counts as none, and `lies` says so.
  std::uint64_t published() noexcept {
    if (head_ == tail_) look();
    return lies() ? 0 : tail_ - head_;
  }
  bool lies() const noexcept { return tail_ - head_ > capacity_; }

  // Whether there is nothing, not even a lie, at this moment.
  bool empty() noexcept {
    look();
    return head_ == tail_;
  }

  // Copies out.size() of the published records, from the one at `offset` on. Judge the copy, never the original: the
  // producer may write again, and the fence keeps the compiler from reading again.
  void copy_out(std::uint64_t offset, std::span<Record> out) const noexcept {
    const std::uint64_t place = (head_ + offset) & (capacity_ - 1);
    const std::uint64_t before_end = std::min<std::uint64_t>(out.size(), capacity_ - place);
    std::copy_n(records_ + place, before_end, out.data());
    std::copy_n(records_, out.size() - before_end, out.data() + before_end);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  // Gives the places of `count` published records back to the producer.
  void release(std::uint64_t count) noexcept {
    head_ += count;
    header_->head.store(head_, std::memory_order_release);
  }

  // Forgets all that is published, lies included.
  void resynchronise() noexcept {
    look();
    release(tail_ - head_);
  }

 private:
  void look() noexcept { tail_ = header_->tail.load(std::memory_order_acquire); }

  RingHeader<Atomic>* header_;
  const Record* records_;
  std::uint64_t capacity_;
  std::uint64_t head_;
  std::uint64_t tail_;  // as last seen
};

}  // namespace aruntime
