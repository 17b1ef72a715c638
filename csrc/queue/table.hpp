// Rows and columns of 64-bit atomics in a sealed memory file. A row has one writer; anybody reads, and sums. Of a cell that
// many write, `cell` gives the atomic itself.
//
// Every number stands alone: nothing orders one cell after another, so relaxed loads and stores are enough. A row is as
// many whole cache lines as it needs, so writers do not share one.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "queue/mapping.hpp"
#include "queue/spsc_ring.hpp"

namespace aruntime {

class Table {
 public:
  using Number = std::atomic<std::int64_t>;

  // Returns the descriptor of a new table of zeros.
  static int create(std::uint32_t rows, std::uint32_t columns) {
    if (!is_side(rows) || !is_side(columns)) {
      throw std::invalid_argument("want 1 to 4096 rows and columns, got " + std::to_string(rows) + " and " +
                                  std::to_string(columns));
    }
    return create_memory_file("aruntime-table", bytes(rows, columns), Label{.rows = rows, .columns = columns});
  }

  // Throws std::invalid_argument when the file is not a table.
  explicit Table(int fd) : mapping_(fd) {
    const auto label = mapping_.label<Label>();
    rows_ = label.rows;
    columns_ = label.columns;
    if (label.magic != Label{}.magic || !is_side(rows_) || !is_side(columns_) ||
        mapping_.bytes() != bytes(rows_, columns_)) {
      throw std::invalid_argument("not a table");
    }
  }

  std::uint32_t rows() const noexcept { return rows_; }
  std::uint32_t columns() const noexcept { return columns_; }
  std::int64_t get(std::uint32_t row, std::uint32_t column) const noexcept {
    return at(row, column).load(std::memory_order_relaxed);
  }
  void set(std::uint32_t row, std::uint32_t column, std::int64_t value) noexcept {
    at(row, column).store(value, std::memory_order_relaxed);
  }
  void add(std::uint32_t row, std::uint32_t column, std::int64_t delta) noexcept {
    at(row, column).fetch_add(delta, std::memory_order_relaxed);
  }
  Number& cell(std::uint32_t row, std::uint32_t column) noexcept { return at(row, column); }
  std::int64_t sum(std::uint32_t column) const noexcept {
    std::int64_t total = 0;
    for (std::uint32_t row = 0; row < rows_; ++row) total += get(row, column);
    return total;
  }

 private:
  struct Label {
    std::uint64_t magic = 0x31304c4254525241;  // "ARRTBL01"
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
  };

  static bool is_side(std::uint32_t count) noexcept { return count >= 1 && count <= 4096; }
  static std::size_t stride(std::uint32_t columns) noexcept { return (columns + 7u) / 8u * 8u; }
  static std::size_t bytes(std::uint32_t rows, std::uint32_t columns) noexcept {
    return kCacheLine + rows * stride(columns) * sizeof(Number);
  }
  Number& at(std::uint32_t row, std::uint32_t column) const noexcept {
    return reinterpret_cast<Number*>(mapping_.data() + kCacheLine)[row * stride(columns_) + column];
  }

  Mapping mapping_;
  std::uint32_t rows_;
  std::uint32_t columns_;
};

}  // namespace aruntime
