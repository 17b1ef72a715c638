// A budget by the minute in one number: the moment at which the bucket was empty.
//
//   level = now - empty, at most a minute        spend: empty += cost        refund: empty -= cost
//
// Source: the generic cell rate algorithm (ITU-T I.371), as a virtual clock that many processes share. The bucket holds a
// minute's worth, so a cost is a time: tokens * minute / tokens a minute. Nothing ticks and nothing is refilled. Lock-free:
// a failed exchange means that somebody else's succeeded; a process killed at any instruction has spent whole or not at
// all. The number stands alone, so relaxed order is enough: the exchange itself lets no two spend the same.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace aruntime::admission {

inline constexpr std::int64_t kMinuteNs = 60'000'000'000;

// What `amount` costs of a budget of `per_minute` (both positive), in nanoseconds, rounded up.
inline std::int64_t cost_ns(std::int64_t amount, std::int64_t per_minute) noexcept {
  const auto exact = (static_cast<__int128>(amount) * kMinuteNs + per_minute - 1) / per_minute;
  return static_cast<std::int64_t>(std::min<__int128>(exact, INT64_MAX / 4));
}

// When the bucket was empty, as far as it matters at `now_ns`: it holds no more than a minute. A moment that no spender
// can have written (the memory is shared) counts as empty now.
inline std::int64_t empty_ns(std::int64_t cell, std::int64_t now_ns) noexcept {
  return cell > now_ns + kMinuteNs ? now_ns : std::max(cell, now_ns - kMinuteNs);
}

// Takes `cost` out of the bucket: returns 0. Or takes nothing, and returns in how many nanoseconds there is enough, if
// nobody else spends. A cost above a minute never fits.
template <typename Cell = std::atomic<std::int64_t>>
std::int64_t try_spend(Cell& cell, std::int64_t now_ns, std::int64_t cost) noexcept {
  std::int64_t seen = cell.load(std::memory_order_relaxed);
  for (;;) {
    const std::int64_t after = empty_ns(seen, now_ns) + cost;
    if (after > now_ns) return after - now_ns;
    if (cell.compare_exchange_weak(seen, after, std::memory_order_relaxed)) return 0;
  }
}

// Gives back what was spent; the bucket still holds no more than a minute.
template <typename Cell = std::atomic<std::int64_t>>
void refund(Cell& cell, std::int64_t cost) noexcept {
  cell.fetch_sub(cost, std::memory_order_relaxed);
}

// How full the bucket is at `now_ns`, 0 to 1.
inline double level(std::int64_t cell, std::int64_t now_ns) noexcept {
  return static_cast<double>(std::max<std::int64_t>(0, now_ns - empty_ns(cell, now_ns))) / kMinuteNs;
}

}  // namespace aruntime::admission
