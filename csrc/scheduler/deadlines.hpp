// The deadlines of all that live, earliest first: a binary heap whose elements know their place, so any can leave.
//
// A step looks at the first only. A sequence without a deadline never enters.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "scheduler/sequence.hpp"

namespace aruntime {

class Deadlines {
 public:
  void add(Sequence& sequence) {
    if (sequence.deadline_s == kNever) return;
    heap_.push_back(nullptr);
    rise(heap_.size() - 1, sequence);
  }

  void remove(Sequence& sequence) noexcept {
    if (sequence.deadline_s == kNever) return;
    const std::size_t hole = sequence.deadline_place;
    Sequence& last = *heap_.back();
    heap_.pop_back();
    if (&last == &sequence) return;
    if (last.deadline_s < sequence.deadline_s) {
      rise(hole, last);
    } else {
      sink(hole, last);
    }
  }

  // The sequence whose deadline is earliest, if that is not after `now_s`; otherwise null.
  Sequence* passed(double now_s) const noexcept {
    return !heap_.empty() && heap_.front()->deadline_s <= now_s ? heap_.front() : nullptr;
  }

  double next_s() const noexcept {
    return heap_.empty() ? kNever : heap_.front()->deadline_s;
  }

  const std::vector<Sequence*>& heap() const noexcept { return heap_; }

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  void put(std::size_t place, Sequence& sequence) noexcept {
    heap_[place] = &sequence;
    sequence.deadline_place = static_cast<std::uint32_t>(place);
  }

  void rise(std::size_t place, Sequence& sequence) noexcept {
    for (; place > 0; place = (place - 1) / 2) {
      Sequence& above = *heap_[(place - 1) / 2];
      if (above.deadline_s <= sequence.deadline_s) break;
      put(place, above);
    }
    put(place, sequence);
  }

  void sink(std::size_t place, Sequence& sequence) noexcept {
    for (std::size_t below = 2 * place + 1; below < heap_.size(); below = 2 * place + 1) {
      if (below + 1 < heap_.size() && heap_[below + 1]->deadline_s < heap_[below]->deadline_s) ++below;
      if (sequence.deadline_s <= heap_[below]->deadline_s) break;
      put(place, *heap_[below]);
      place = below;
    }
    put(place, sequence);
  }

  std::vector<Sequence*> heap_;
};

}  // namespace aruntime
