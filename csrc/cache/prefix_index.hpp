// Blocks by the hash of their prefix.
//
// Open addressing with linear probing at a load of at most one half; what is removed leaves no mark, for those behind
// it move up (Knuth, TAOCP 6.4, algorithm R). Equal hashes may stand side by side: who asks says which one is meant.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aruntime {

inline constexpr std::int32_t kNoBlock = -1;

class PrefixIndex {
 public:
  explicit PrefixIndex(std::int32_t blocks)
      : slots_(std::bit_ceil(2 * static_cast<std::size_t>(blocks))), mask_(slots_.size() - 1) {}

  // The block under `hash` of which `is_meant(block)` is true.
  template <typename IsMeant>
  std::int32_t find(std::uint32_t hash, IsMeant is_meant) const noexcept {
    for (std::size_t at = hash & mask_; slots_[at].block != kNoBlock; at = (at + 1) & mask_) {
      if (slots_[at].hash == hash && is_meant(slots_[at].block)) return slots_[at].block;
    }
    return kNoBlock;
  }

  void add(std::uint32_t hash, std::int32_t block) noexcept {
    std::size_t at = hash & mask_;
    while (slots_[at].block != kNoBlock) at = (at + 1) & mask_;
    slots_[at] = {hash, block};
  }

  // The block is there.
  void remove(std::uint32_t hash, std::int32_t block) noexcept {
    std::size_t hole = hash & mask_;
    while (slots_[hole].block != block) hole = (hole + 1) & mask_;
    for (std::size_t at = (hole + 1) & mask_; slots_[at].block != kNoBlock; at = (at + 1) & mask_) {
      const std::size_t behind_home = (at - slots_[at].hash) & mask_, behind_hole = (at - hole) & mask_;
      if (behind_home < behind_hole) continue;  // it would stand before its home, where nobody looks
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole] = {};
  }

  void prefetch(std::uint32_t hash) const noexcept { __builtin_prefetch(&slots_[hash & mask_]); }
  // Most often the block that `find` will look at first: good enough to prefetch it.
  std::int32_t guess(std::uint32_t hash) const noexcept { return slots_[hash & mask_].block; }

  std::size_t size() const noexcept {
    std::size_t size = 0;
    for (const Slot& slot : slots_) size += slot.block != kNoBlock;
    return size;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t block = kNoBlock;
  };

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace aruntime
