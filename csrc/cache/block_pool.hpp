// The free blocks of one cache, by number.
//
// A block is in exactly one place: here, or in the table of one sequence. Last in, first out, so that a block that was
// just read is written again while it is still near.
#pragma once

#include <cstdint>
#include <vector>

namespace aruntime {

class BlockPool {
 public:
  explicit BlockPool(std::int32_t blocks) : blocks_(blocks) {
    free_.reserve(static_cast<std::size_t>(blocks));
    for (std::int32_t block = blocks; block-- > 0;) free_.push_back(block);
  }

  std::int32_t blocks() const noexcept { return blocks_; }
  std::int32_t free() const noexcept { return static_cast<std::int32_t>(free_.size()); }

  // Moves `count` blocks to the end of `table`. The caller has made sure that so many are free.
  void take(std::int32_t count, std::vector<std::int32_t>& table) {
    table.insert(table.end(), free_.rbegin(), free_.rbegin() + count);
    free_.resize(free_.size() - static_cast<std::size_t>(count));
  }

  // Takes back all blocks of `table`, which is empty afterwards.
  void give_back(std::vector<std::int32_t>& table) noexcept {
    free_.insert(free_.end(), table.rbegin(), table.rend());  // within the reserve: never more than `blocks`
    table.clear();
  }

  const std::vector<std::int32_t>& free_list() const noexcept { return free_; }

 private:
  std::int32_t blocks_;
  std::vector<std::int32_t> free_;
};

}  // namespace aruntime
