// A binary heap whose elements know their place in it, so that any of them can leave. First comes whom `Before` puts first.
//
// Source: Williams 1964, with handles. `place` names the member of Element that this heap uses.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aruntime {

template <typename Element, std::uint32_t Element::*place, typename Before>
class Heap {
 public:
  bool empty() const noexcept { return elements_.empty(); }
  std::size_t size() const noexcept { return elements_.size(); }
  Element* first() const noexcept { return elements_.empty() ? nullptr : elements_.front(); }
  const std::vector<Element*>& elements() const noexcept { return elements_; }

  // Makes room for `count` elements, so that `add` allocates nothing while there are no more.
  void reserve(std::size_t count) {
    if (elements_.capacity() < count) elements_.reserve(std::bit_ceil(count));
  }

  void add(Element& element) {
    elements_.push_back(nullptr);
    rise(elements_.size() - 1, element);
  }

  void remove(const Element& element) noexcept {
    const std::size_t hole = element.*place;
    Element& last = *elements_.back();
    elements_.pop_back();
    if (&last == &element) return;
    if (Before{}(last, element)) {
      rise(hole, last);
    } else {
      sink(hole, last);
    }
  }

 private:
  void put(std::size_t at, Element& element) noexcept {
    elements_[at] = &element;
    element.*place = static_cast<std::uint32_t>(at);
  }

  void rise(std::size_t at, Element& element) noexcept {
    for (; at > 0; at = (at - 1) / 2) {
      Element& above = *elements_[(at - 1) / 2];
      if (!Before{}(element, above)) break;
      put(at, above);
    }
    put(at, element);
  }

  void sink(std::size_t at, Element& element) noexcept {
    for (std::size_t below = 2 * at + 1; below < elements_.size(); below = 2 * at + 1) {
      if (below + 1 < elements_.size() && Before{}(*elements_[below + 1], *elements_[below])) ++below;
      if (!Before{}(*elements_[below], element)) break;
      put(at, *elements_[below]);
      at = below;
    }
    put(at, element);
  }

  std::vector<Element*> elements_;
};

}  // namespace aruntime
