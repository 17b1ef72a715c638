// Who is served first, and who gives way: by priority class, within a class by arrival.
//
// The scheduler asks this object and nothing else, so another order (fair by tenant, by deadline) is another class with
// the same six members.
#pragma once

#include <array>
#include <cstdint>

#include "scheduler/sequence.hpp"

namespace aruntime {

class ArrivalOrder {
 public:
  // Total: of two sequences one is before the other. When blocks run out, the last in this order gives way.
  static bool before(const Sequence& one, const Sequence& other) noexcept {
    return one.priority != other.priority ? one.priority < other.priority : one.number < other.number;
  }

  void enter(Sequence& sequence) noexcept { of(sequence).push_back(sequence); }
  // Back to the head of its class. Whoever is preempted is younger than all that run in its class and older than all
  // that wait in it, so every class stays sorted by `before`.
  void reenter(Sequence& sequence) noexcept { of(sequence).push_front(sequence); }
  void leave(Sequence& sequence) noexcept { of(sequence).remove(sequence); }

  // The next to be taken up; null when nobody waits.
  Sequence* next() const noexcept {
    for (const auto& waiting : classes_) {
      if (!waiting.empty()) return waiting.first();
    }
    return nullptr;
  }

  // Calls `visit` with everyone who waits, in order.
  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& waiting : classes_) {
      for (Sequence* sequence = waiting.first(); sequence; sequence = Waiting::next(*sequence)) visit(*sequence);
    }
  }

 private:
  using Waiting = List<Sequence, &Sequence::waiting_link>;
  Waiting& of(const Sequence& sequence) noexcept { return classes_[static_cast<std::uint32_t>(sequence.priority)]; }

  std::array<Waiting, 3> classes_;  // by Priority
};

}  // namespace aruntime
