// A doubly linked list through the elements themselves: nothing is allocated, and any element leaves in O(1).
#pragma once

namespace aruntime {

template <typename Element>
struct Link {
  Element* previous = nullptr;
  Element* next = nullptr;
};

// `link` names the member of Element that this list uses; an element is in one list per member at most.
template <typename Element, Link<Element> Element::*link>
class List {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  Element* first() const noexcept { return first_; }
  static Element* next(const Element& element) noexcept { return (element.*link).next; }

  void push_back(Element& element) noexcept { insert(element, last_, nullptr); }
  void push_front(Element& element) noexcept { insert(element, nullptr, first_); }

  void remove(Element& element) noexcept {
    auto& [previous, next] = element.*link;
    (previous ? (previous->*link).next : first_) = next;
    (next ? (next->*link).previous : last_) = previous;
    element.*link = {};
  }

 private:
  void insert(Element& element, Element* previous, Element* next) noexcept {
    element.*link = {previous, next};
    (previous ? (previous->*link).next : first_) = &element;
    (next ? (next->*link).previous : last_) = &element;
  }

  Element* first_ = nullptr;
  Element* last_ = nullptr;
};

}  // namespace aruntime
