// What the scheduler holds for one front end: its sequences, and what it has not been told yet.
//
// Nothing is queued token by token: a sequence remembers how much of its output was delivered, and stands in `outgoing`
// while there is more. So a full output ring loses nothing, and what it holds back is bounded by the sequences' own size.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>

#include "queue/records.hpp"
#include "scheduler/sequence.hpp"

namespace aruntime {

// Moves the next record of `sequence` to `out`. Returns false when there is none.
inline bool take_record(Sequence& sequence, OutputRecord& out) {
  out = OutputRecord{};
  out.slot = sequence.slot;
  out.generation = sequence.generation;
  if (sequence.telling && sequence.telling->take(sequence.delivered, sequence.outputs(), out)) return true;
  const bool token = sequence.delivered < sequence.outputs();
  if (!token && sequence.finish == FinishReason::kNone) return false;
  out.index = static_cast<std::uint32_t>(sequence.delivered);
  out.cached_tokens = static_cast<std::uint32_t>(sequence.cached_tokens);
  if (token) {
    out.token = sequence.tokens[static_cast<std::size_t>(sequence.prompt_tokens + sequence.delivered)];
    out.logprob = sequence.logprobs[static_cast<std::size_t>(sequence.delivered)];
  }
  // The last token of a sequence that ends by length carries the end; every other end is a record of its own.
  const bool last = sequence.delivered + 1 == sequence.outputs();
  if (!token || (last && sequence.finish == FinishReason::kLength)) out.finish = sequence.finish;
  sequence.delivered += token;
  return true;
}

struct FrontEnd {
  static std::uint64_t key(std::uint32_t slot, std::uint32_t generation) noexcept {
    return std::uint64_t{slot} << 32 | generation;
  }

  std::unordered_map<std::uint64_t, Sequence*> sequences;  // until their end has been taken
  List<Sequence, &Sequence::outgoing_link> outgoing;
  std::deque<OutputRecord> refusals;  // at most kRefusalsMax

  bool has_outputs() const noexcept { return !outgoing.empty() || !refusals.empty(); }

  // Remembers that `sequence` has something to tell.
  void tell(Sequence& sequence) noexcept {
    if (sequence.outgoing) return;
    sequence.outgoing = true;
    outgoing.push_back(sequence);
  }

  void forget(Sequence& sequence) noexcept {
    if (!sequence.outgoing) return;
    sequence.outgoing = false;
    outgoing.remove(sequence);
  }
};

}  // namespace aruntime
