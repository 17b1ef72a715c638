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

inline constexpr std::uint32_t cells_of(std::uint32_t prompt_tokens) noexcept {
  return kSubmitHeadCells + prompt_tokens / kTokensPerCell + (prompt_tokens % kTokensPerCell != 0);
}

// What an engine has read: `head` and `prompt` of a submit, else `about`, as `receive` says. Kept and used again.
struct Message {
  SubmitHead head;
  SlotMessage about;
  std::vector<std::int32_t> prompt;
};

enum class Received : int { kNothing = 0, kSubmit = 1, kCancel = 2, kPause = 3, kResume = 4, kRefused = 5 };

class EngineEnd {
 public:
  // Neither descriptor is kept. Throws std::invalid_argument, which says what is wrong with them.
  EngineEnd(int fd, int front_end_bell, std::uint64_t epoch)
      : channel_(fd, epoch),
        rope_(front_end_bell),
        cells_(&channel_.header().submit, channel_.cells(), channel_.submit_cells()),
        outputs_(&channel_.header().output, channel_.outputs(), channel_.output_records()) {}

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
        said.cells != cells_of(said.prompt_tokens) || said.cells > published) {
      return false;
    }
    const std::uint32_t prompt_cells = said.cells - kSubmitHeadCells;
    message.prompt.resize(std::size_t{prompt_cells} * kTokensPerCell);
    cells_.copy_out(kSubmitHeadCells, {reinterpret_cast<Cell*>(message.prompt.data()), prompt_cells});
    message.prompt.resize(said.prompt_tokens);
    cells_.release(said.cells);
    return true;
  }

  Channel channel_;
  BellRope rope_;
  RingConsumer<Cell> cells_;
  RingProducer<OutputRecord> outputs_;
  std::uint64_t refused_ = 0;
};

class FrontEndEnd {
 public:
  // Neither descriptor is kept. Throws std::invalid_argument, which says what is wrong with them.
  FrontEndEnd(int fd, int engine_bell, std::uint64_t epoch)
      : channel_(fd, epoch),
        rope_(engine_bell),
        cells_(&channel_.header().submit, channel_.cells(), channel_.submit_cells()),
        outputs_(&channel_.header().output, channel_.outputs(), channel_.output_records()) {}

  // Publishes a request by one store and rings the engine if it sleeps. Sets head.kind and head.cells. False: no room.
  bool try_submit(SubmitHead& head, const std::int32_t* prompt) {
    head.kind = MessageKind::kSubmit;
    head.cells = cells_of(head.prompt_tokens);
    scratch_.assign(head.cells, Cell{});
    std::memcpy(scratch_.data(), &head, sizeof head);
    std::memcpy(scratch_.data() + kSubmitHeadCells, prompt, std::size_t{head.prompt_tokens} * sizeof(std::int32_t));
    return publish(scratch_);
  }

  // Says cancel, pause or resume. False: no room.
  bool try_tell(MessageKind kind, std::uint32_t slot, std::uint32_t generation) noexcept {
    const SlotMessage message{.kind = kind, .slot = slot, .generation = generation};
    Cell cell;
    std::memcpy(&cell, &message, sizeof cell);
    return publish({&cell, 1});
  }

  // Copies out at most `max` records; one whose finish is no FinishReason is refused, with all that was published.
  std::uint32_t take(OutputRecord* records, std::uint32_t max) noexcept {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(outputs_.published(), max));
    outputs_.copy_out(0, {records, count});
    const auto is_good = [](const OutputRecord& record) { return record.finish <= FinishReason::kDraining; };
    const auto good = static_cast<std::uint32_t>(std::find_if_not(records, records + count, is_good) - records);
    if (good < count || outputs_.lies()) {
      ++refused_;
      outputs_.resynchronise();
    } else {
      outputs_.release(count);
    }
    return good;
  }

  // Asks for the bell. False: there are records already, do not sleep.
  bool prepare_sleep() noexcept { return channel_.header().front_end.prepare_sleep(outputs_); }
  void awake() noexcept { channel_.header().front_end.awake(); }
  std::uint32_t submit_cells() const noexcept { return channel_.submit_cells(); }
  std::uint64_t submit_room() noexcept { return cells_.room(); }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  bool publish(std::span<const Cell> cells) noexcept {
    if (!cells_.try_push(cells)) return false;
    if (channel_.header().engine.should_ring()) rope_.ring();
    return true;
  }

  Channel channel_;
  BellRope rope_;
  RingProducer<Cell> cells_;
  RingConsumer<OutputRecord> outputs_;
  std::vector<Cell> scratch_;
  std::uint64_t refused_ = 0;
};

}  // namespace aruntime
