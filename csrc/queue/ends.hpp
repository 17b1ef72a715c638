// The two ends of a channel: what a front end and an engine say to each other, and what they believe.
//
// Each end copies a message out before it judges it: the peer may write meanwhile. A malformed one is counted and
// dropped with all that was published; no length in it is ever followed. Neither end ever waits for the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "queue/channel.hpp"

namespace aruntime {

// Cells that hold so many elements; no sum of them leaves 32 bits.
inline constexpr std::uint32_t cells_for(std::uint32_t count, std::uint32_t per_cell) noexcept {
  return count / per_cell + (count % per_cell != 0);
}
inline constexpr std::uint32_t cells_of(std::uint32_t prompt_tokens, std::uint32_t payload_bytes) noexcept {
  return kSubmitHeadCells + cells_for(prompt_tokens, kTokensPerCell) + cells_for(payload_bytes, kCellBytes);
}
inline constexpr std::uint32_t result_cells_of(std::uint32_t bytes) noexcept { return 1 + cells_for(bytes, kCellBytes); }

// Copies `bytes` into whole cells; what is left of the last one is zeros.
inline void fill_cells(Cell* cells, const void* data, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  std::memcpy(cells, data, bytes);
  std::memset(reinterpret_cast<std::byte*>(cells) + bytes, 0, (kCellBytes - bytes % kCellBytes) % kCellBytes);
}

// Copies `count` elements out of whole cells of a ring, from the one at `offset` on.
template <typename Element>
void copy_elements(const RingConsumer<Cell>& ring, std::uint64_t offset, std::uint32_t count, std::vector<Element>& out) {
  constexpr auto kPerCell = static_cast<std::uint32_t>(kCellBytes / sizeof(Element));
  const std::uint32_t cells = cells_for(count, kPerCell);
  out.resize(std::size_t{cells} * kPerCell);
  ring.copy_out(offset, {reinterpret_cast<Cell*>(out.data()), cells});
  out.resize(count);
}

// What an engine has read: a submit's `head`, `prompt` and `payload`, else `about`, as `receive` says. Kept and used again.
struct Message {
  SubmitHead head;
  SlotMessage about;
  std::vector<std::int32_t> prompt;
  std::vector<std::byte> payload;
};

// What a front end has read of the result ring. Kept and used again.
struct Result {
  ResultHead head;
  std::vector<std::byte> bytes;
};

enum class Received : int { kNothing = 0, kSubmit = 1, kCancel = 2, kPause = 3, kResume = 4, kRefused = 5 };

class EngineEnd {
 public:
  // Neither descriptor is kept. Throws std::invalid_argument, which says what is wrong with them.
  EngineEnd(int fd, int front_end_bell, std::uint64_t epoch)
      : channel_(fd, epoch),
        rope_(front_end_bell),
        cells_(&channel_.header().submit, channel_.cells(), channel_.submit_cells()),
        outputs_(&channel_.header().output, channel_.outputs(), channel_.output_records()),
        results_(&channel_.header().result, channel_.results(), channel_.result_cells()) {}

  // Copies the next message out. kRefused: it was malformed, is counted, and all that was published went with it.
  Received receive(Message& message) noexcept {
    const std::uint64_t published = cells_.published();
    if (published == 0 && !cells_.lies()) return Received::kNothing;
    if (published > 0) {
      cells_.copy_out(0, {reinterpret_cast<Cell*>(&message.about), 1});
      const MessageKind kind = message.about.kind;  // stands first in every message
      if (kind == MessageKind::kSubmit && take_submit(published, message)) return Received::kSubmit;
      if (kind == MessageKind::kCancel && take_about(message)) return Received::kCancel;
      if (kind == MessageKind::kPause && take_about(message)) return Received::kPause;
      if (kind == MessageKind::kResume && take_about(message)) return Received::kResume;
    }
    ++refused_;
    cells_.resynchronise();
    return Received::kRefused;
  }

  // Writes as many of the records as there is room for; returns how many. Does not ring.
  std::uint32_t send(const OutputRecord* records, std::uint32_t count) noexcept {
    count = std::min(count, output_room());
    outputs_.try_push({records, count});
    return count;
  }
  std::uint32_t output_room() noexcept { return static_cast<std::uint32_t>(outputs_.room()); }

  // Publishes a result of at most `result_bytes_max` by one store. False: no room now. Does not ring.
  bool try_result(std::uint32_t slot, std::uint32_t generation, const std::byte* data, std::uint32_t bytes) {
    const ResultHead head{.cells = result_cells_of(bytes), .slot = slot, .generation = generation, .bytes = bytes};
    if (results_.room() < head.cells) return false;
    scratch_.resize(head.cells);
    fill_cells(scratch_.data(), &head, sizeof head);
    fill_cells(scratch_.data() + 1, data, bytes);
    return results_.try_push(scratch_);
  }
  std::uint64_t result_bytes_max() const noexcept { return std::uint64_t{channel_.result_cells() - 1} * kCellBytes; }

  // Asks for the bell. False: there is a message already, do not sleep.
  bool prepare_sleep() noexcept { return channel_.header().engine.prepare_sleep(cells_); }
  void awake() noexcept { channel_.header().engine.awake(); }
  void ring_bell() noexcept {
    if (channel_.header().front_end.should_ring()) rope_.ring();
  }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  bool take_about(const Message& message) noexcept {
    if (message.about.cells != 1) return false;
    cells_.release(1);
    return true;
  }

  bool take_submit(std::uint64_t published, Message& message) noexcept {
    if (published < kSubmitHeadCells) return false;
    cells_.copy_out(0, {reinterpret_cast<Cell*>(&message.head), kSubmitHeadCells});
    const SubmitHead& said = message.head;
    if (said.kind != MessageKind::kSubmit || said.prompt_tokens == 0 || said.stop_tokens > kStopTokensMax ||
        said.cells != cells_of(said.prompt_tokens, said.payload_bytes) || said.cells > published) {
      return false;
    }
    copy_elements(cells_, kSubmitHeadCells, said.prompt_tokens, message.prompt);
    copy_elements(cells_, said.cells - cells_for(said.payload_bytes, kCellBytes), said.payload_bytes, message.payload);
    cells_.release(said.cells);
    return true;
  }

  Channel channel_;
  BellRope rope_;
  RingConsumer<Cell> cells_;
  RingProducer<OutputRecord> outputs_;
  RingProducer<Cell> results_;
  std::vector<Cell> scratch_;
  std::uint64_t refused_ = 0;
};

class FrontEndEnd {
 public:
  // Neither descriptor is kept. Throws std::invalid_argument, which says what is wrong with them.
  FrontEndEnd(int fd, int engine_bell, std::uint64_t epoch)
      : channel_(fd, epoch),
        rope_(engine_bell),
        cells_(&channel_.header().submit, channel_.cells(), channel_.submit_cells()),
        outputs_(&channel_.header().output, channel_.outputs(), channel_.output_records()),
        results_(&channel_.header().result, channel_.results(), channel_.result_cells()) {}

  // Publishes a request by one store and rings the engine if it sleeps. Sets head.kind and head.cells. False: no room.
  bool try_submit(SubmitHead& head, const std::int32_t* prompt, const std::byte* payload) {
    head.kind = MessageKind::kSubmit;
    head.cells = cells_of(head.prompt_tokens, head.payload_bytes);
    if (cells_.room() < head.cells) return false;
    scratch_.resize(head.cells);
    fill_cells(scratch_.data(), &head, sizeof head);
    fill_cells(scratch_.data() + kSubmitHeadCells, prompt, std::size_t{head.prompt_tokens} * sizeof(std::int32_t));
    fill_cells(scratch_.data() + cells_of(head.prompt_tokens, 0), payload, head.payload_bytes);
    return publish(scratch_);
  }

  // Says cancel, pause or resume. False: no room.
  bool try_tell(MessageKind kind, std::uint32_t slot, std::uint32_t generation) noexcept {
    const SlotMessage message{.kind = kind, .slot = slot, .generation = generation};
    Cell cell;
    std::memcpy(&cell, &message, sizeof cell);
    return publish({&cell, 1});
  }

  // Copies out at most `max` records; one of no finish or kind that there is is refused, with all that was published.
  std::uint32_t take(OutputRecord* records, std::uint32_t max) noexcept {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(outputs_.published(), max));
    outputs_.copy_out(0, {records, count});
    const auto is_good = [](const OutputRecord& record) {
      return record.finish <= FinishReason::kGrammar && record.kind <= RecordKind::kPromptToken;
    };
    const auto good = static_cast<std::uint32_t>(std::find_if_not(records, records + count, is_good) - records);
    if (good < count || outputs_.lies()) {
      ++refused_;
      outputs_.resynchronise();
    } else {
      outputs_.release(count);
    }
    return good;
  }

  // Cells of results that are there at this moment, a lie being one: who has read so many may stop, however fast the
  // engine writes.
  std::uint64_t result_cells() noexcept {
    return results_.empty() ? 0 : std::max<std::uint64_t>(1, results_.published());
  }

  // Copies the next result out. False: none, or it was malformed, is counted, and all that was published went with it.
  bool take_result(Result& result) {
    const std::uint64_t published = results_.published();
    if (published == 0 && !results_.lies()) return false;
    if (published > 0) {
      results_.copy_out(0, {reinterpret_cast<Cell*>(&result.head), 1});
      const ResultHead& told = result.head;
      if (told.cells == result_cells_of(told.bytes) && told.cells <= published) {
        copy_elements(results_, 1, told.bytes, result.bytes);
        results_.release(told.cells);
        return true;
      }
    }
    ++refused_;
    results_.resynchronise();
    return false;
  }

  // Asks for the bell. False: there are records already, do not sleep.
  bool prepare_sleep() noexcept { return channel_.header().front_end.prepare_sleep(outputs_); }
  void awake() noexcept { channel_.header().front_end.awake(); }
  void ring_bell() noexcept {
    if (channel_.header().engine.should_ring()) rope_.ring();
  }
  std::uint32_t submit_cells() const noexcept { return channel_.submit_cells(); }
  std::uint64_t submit_room() noexcept { return cells_.room(); }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  bool publish(std::span<const Cell> cells) noexcept {
    if (!cells_.try_push(cells)) return false;
    ring_bell();
    return true;
  }

  Channel channel_;
  BellRope rope_;
  RingProducer<Cell> cells_;
  RingConsumer<OutputRecord> outputs_;
  RingConsumer<Cell> results_;
  std::vector<Cell> scratch_;
  std::uint64_t refused_ = 0;
};

}  // namespace aruntime
