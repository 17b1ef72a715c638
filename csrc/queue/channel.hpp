// What one front end and one engine share: a memory file with a ring one way, two the other, and a bell each way.
//
//   | header | submit ring: 64-byte cells | output ring: 32-byte records | result ring: 64-byte cells |
//
// The supervisor makes the file and hands it to both ends. A process that starts again gets a new file of a new epoch,
// so nothing of a dead one is ever read. ends.hpp says how the two talk.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "queue/bell.hpp"
#include "queue/mapping.hpp"
#include "queue/records.hpp"
#include "queue/spsc_ring.hpp"

namespace aruntime {

struct Cell {
  std::byte bytes[kCellBytes];
};
static_assert(sizeof(Cell) == kCellBytes);

// Written once, before anybody has the file.
struct ChannelLabel {
  static constexpr std::uint64_t kMagic = 0x33304c4843525241;  // "ARRCHL03", and the layout's version with it
  std::uint64_t magic = kMagic;
  std::uint64_t epoch = 0;
  std::uint32_t submit_cells = 0;    // a power of two
  std::uint32_t output_records = 0;  // a power of two
  std::uint32_t result_cells = 0;    // a power of two
};

// All but the label begins as zeros.
struct ChannelHeader {
  ChannelLabel label;
  RingHeader<> submit;
  RingHeader<> output;
  RingHeader<> result;
  alignas(kCacheLine) Bell<> engine;     // the engine sleeps; the front end rings
  alignas(kCacheLine) Bell<> front_end;  // the front end sleeps; the engine rings
};
static_assert(sizeof(ChannelHeader) % kCacheLine == 0);

inline constexpr bool is_ring_size(std::uint32_t records) noexcept {
  return records >= 2 && std::has_single_bit(records);
}

inline constexpr std::size_t channel_bytes(std::uint32_t submit_cells, std::uint32_t output_records,
                                           std::uint32_t result_cells) noexcept {
  return sizeof(ChannelHeader) + (std::size_t{submit_cells} + result_cells) * sizeof(Cell) +
         std::size_t{output_records} * sizeof(OutputRecord);
}

// Returns the descriptor of a new channel. Throws std::invalid_argument when a size is no power of two.
inline int create_channel(std::uint64_t epoch, std::uint32_t submit_cells, std::uint32_t output_records,
                          std::uint32_t result_cells) {
  if (!is_ring_size(submit_cells) || !is_ring_size(output_records) || !is_ring_size(result_cells)) {
    throw std::invalid_argument("a ring's size must be a power of two, got " + std::to_string(submit_cells) + ", " +
                                std::to_string(output_records) + " and " + std::to_string(result_cells));
  }
  const ChannelLabel label{.epoch = epoch,
                           .submit_cells = submit_cells,
                           .output_records = output_records,
                           .result_cells = result_cells};
  return create_memory_file("aruntime-channel", channel_bytes(submit_cells, output_records, result_cells), label);
}

// One end's view of the file, checked when it is opened.
class Channel {
 public:
  // Throws std::invalid_argument when the file is not a channel, or not one of this epoch.
  Channel(int fd, std::uint64_t epoch) : mapping_(fd) {
    const auto label = mapping_.label<ChannelLabel>();
    submit_cells_ = label.submit_cells;
    output_records_ = label.output_records;
    result_cells_ = label.result_cells;
    if (label.magic != ChannelLabel::kMagic) throw std::invalid_argument("not a channel of this layout");
    if (label.epoch != epoch) throw std::invalid_argument("a channel of another epoch");
    if (!is_ring_size(submit_cells_) || !is_ring_size(output_records_) || !is_ring_size(result_cells_) ||
        mapping_.bytes() != channel_bytes(submit_cells_, output_records_, result_cells_)) {
      throw std::invalid_argument("a channel whose sizes do not add up");
    }
  }

  ChannelHeader& header() const noexcept { return *reinterpret_cast<ChannelHeader*>(mapping_.data()); }
  Cell* cells() const noexcept { return reinterpret_cast<Cell*>(mapping_.data() + sizeof(ChannelHeader)); }
  OutputRecord* outputs() const noexcept { return reinterpret_cast<OutputRecord*>(cells() + submit_cells_); }
  Cell* results() const noexcept { return reinterpret_cast<Cell*>(outputs() + output_records_); }
  std::uint32_t submit_cells() const noexcept { return submit_cells_; }
  std::uint32_t output_records() const noexcept { return output_records_; }
  std::uint32_t result_cells() const noexcept { return result_cells_; }

 private:
  Mapping mapping_;
  std::uint32_t submit_cells_;  // copies: the label may change under us
  std::uint32_t output_records_;
  std::uint32_t result_cells_;
};

}  // namespace aruntime
