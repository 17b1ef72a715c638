// Which cached block goes first when room is needed: segmented LRU.
//
// Source: Karedla, Love, Wherry 1994. What was found again is protected; all else is on probation and goes first, so a
// flood of prompts that nobody repeats passes through without washing out those that are shared. Only while the
// protected are more than four fifths of all (Caffeine's bound) does the oldest of them go: what was popular once ages
// too. Lists run through the blocks themselves, by number: a call is O(1) and allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aruntime {

class SegmentedLru {
 public:
  explicit SegmentedLru(std::int32_t blocks) : links_(static_cast<std::size_t>(blocks) + 2), heads_(blocks) {
    for (const std::int32_t head : {heads_, heads_ + 1}) of(head).previous = of(head).next = head;
  }

  std::int32_t size() const noexcept { return size_; }
  std::int32_t protected_size() const noexcept { return protected_; }

  // The next to go. There must be one.
  std::int32_t oldest() const noexcept {
    const bool too_many = std::int64_t{protected_} * 5 > std::int64_t{size_} * 4;
    return of(heads_ + too_many).next;
  }

  void add(std::int32_t block, bool is_protected) noexcept {
    const std::int32_t head = heads_ + is_protected, newest = of(head).previous;
    of(block) = {newest, head, is_protected};
    of(newest).next = of(head).previous = block;
    ++size_;
    protected_ += is_protected;
  }

  void remove(std::int32_t block) noexcept {
    const Link& link = of(block);  // no copy: read whole, what was just written in parts would make the processor wait
    of(link.previous).next = link.next;
    of(link.next).previous = link.previous;
    --size_;
    protected_ -= link.is_protected;
  }

  // Calls `visit(block, is_protected)` with all on probation, then all that are protected, the oldest first.
  template <typename Visit>
  void each(Visit visit) const {
    for (const std::int32_t head : {heads_, heads_ + 1}) {
      for (std::int32_t at = of(head).next; at != head; at = of(at).next) visit(at, of(at).is_protected);
    }
  }

 private:
  struct Link {
    std::int32_t previous, next;
    bool is_protected = false;
  };

  const Link& of(std::int32_t block) const noexcept { return links_[static_cast<std::size_t>(block)]; }
  Link& of(std::int32_t block) noexcept { return links_[static_cast<std::size_t>(block)]; }

  std::vector<Link> links_;  // a link a block, then the heads of probation and protected
  std::int32_t heads_;
  std::int32_t size_ = 0, protected_ = 0;
};

}  // namespace aruntime
