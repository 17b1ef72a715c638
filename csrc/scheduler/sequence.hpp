// One sequence: its tokens, its blocks, and where it is in its life.
//
//   kFree --submit--> kWaiting --admit--> kPrefilling --last chunk planned--> kDecoding <--resume-- kPaused
//                        ^                    |                                  |  |                 ^ |
//                        +------preempt-------+----------------------------------+  +------pause------+ |
//                        +---------------resume, its blocks were needed elsewhere-----------------------+
//   all of these --finish--> kFinished --end taken--> kFree        any --front end dropped--> kFree
//
// What it knows and what is under way: `size` tokens are known; `pending` more are being sampled by steps that run; the
// keys and values of `computed` are in its blocks, those of `planned` will be when those steps have run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "cache/block_pool.hpp"
#include "queue/records.hpp"
#include "scheduler/guidance.hpp"
#include "scheduler/limits.hpp"
#include "scheduler/list.hpp"
#include "scheduler/telling.hpp"
#include "scheduler/token_counts.hpp"

namespace aruntime {

enum class State : std::uint8_t { kFree, kWaiting, kPrefilling, kDecoding, kPaused, kFinished };

// Who has no deadline is due so long after arriving: later than most deadlines, but not later than all that may come.
inline constexpr double kPatience_s = 60.0;

struct Sequence {
  State state = State::kFree;
  FinishReason finish = FinishReason::kNone;
  Priority priority = Priority::kStandard;
  std::uint32_t tenant = 0;
  std::uint32_t front_end = 0, slot = 0, generation = 0;
  std::uint64_t number = 0;     // of the submit: who came first
  std::uint64_t residence = 0;  // of the admission that gave it its blocks; 0 while it holds none

  std::vector<std::int32_t> tokens;  // the prompt, then the output; its capacity is `tokens_max`
  std::vector<float> logprobs;       // of the output
  std::vector<std::int32_t> blocks;
  std::uint64_t root = 0;               // with whom it shares prefixes
  std::vector<std::uint64_t> prefixes;  // hash of all tokens up to the end of each full block
  Prefix prefix;                        // what stands before its first block that is not announced
  std::int32_t announced = 0, published = 0;  // of its blocks, from the first on: what others can await, and find
  Prefix awaited;                       // somebody computes just what this sequence needs: it follows
  std::int32_t prompt_tokens = 0;
  std::int32_t tokens_max = 0;  // it ends by length here
  std::int32_t planned = 0, computed = 0, pending = 0;
  std::int32_t charged = 0;        // tokens that its tenant has been charged for: what is computed again is free
  std::int32_t cached_tokens = 0;  // of the prompt: they were in the cache when it was first taken up
  std::int32_t taken_up_size = 0;  // its size when it was last taken up
  std::int32_t sample_row = -1;    // in the last step that samples it
  std::int32_t delivered = 0;      // of the output
  bool chosen = false;             // a part of its prompt is in the step that is being planned
  bool outgoing = false;           // in its front end's list of what to take
  bool looks_back = false;  // what it has said decides what it may say next: it is not planned a step ahead
  bool asks_more = false;   // one of what few ask for: penalties, guidance, a grammar, likelihoods

  SamplingParams sampling;
  Pooling pooling = Pooling::kNone;
  std::int32_t pool_place = -1;  // where its sum is kept between two chunks, while it is resident: of a mean
  std::int32_t min_tokens = 0;
  std::vector<std::int32_t> stops;  // tokens that end it, end-of-sequence included
  std::unique_ptr<TokenCounts> counts;  // only when a penalty is set

  double arrived_s = 0.0;
  double deadline_s = std::numeric_limits<double>::infinity();
  double due_s = 0.0;                // what its class is ordered by
  std::uint32_t deadline_place = 0;  // in the heap of deadlines
  std::uint32_t queue_place = 0;     // in the queue of its class
  std::uint32_t decoding_place = 0;  // in the list of those that decode
  Link<Sequence> outgoing_link, resident_link, waiting_link;

  std::unique_ptr<Guidance> guidance;   // only when there are biases or bad words
  std::unique_ptr<Telling> telling;     // only when alternatives or the prompt's logprobs are wanted
  bool guided = false;                   // a grammar says what it may say
  bool held = false;                     // until its grammar is ready: paused, and not to be resumed

  std::int32_t size() const noexcept { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t outputs() const noexcept { return size() - prompt_tokens; }
  std::int32_t tokens_left() const noexcept { return tokens_max - size(); }
  bool running() const noexcept { return state == State::kPrefilling || state == State::kDecoding; }
  bool queued() const noexcept { return state == State::kWaiting || state == State::kPrefilling; }
  bool resident() const noexcept { return residence != 0; }
  bool following() const noexcept { return awaited.id != 0; }
  // Of its tokens, from the first on: what others have computed can stand for these.
  std::int32_t shareable() const noexcept {
    if (pooling == Pooling::kMean) return 0;  // every token's state is wanted
    return telling && telling->scored < telling->rows ? telling->scored : size() - 1;  // the last one's logits are wanted
  }
  bool has_untold() const noexcept { return delivered < outputs() || (telling && telling->has_untold(delivered, outputs())); }
  bool stops_at(std::int32_t token) const noexcept {
    return outputs() >= min_tokens && std::find(stops.begin(), stops.end(), token) != stops.end();
  }

  // Fills a free sequence from a checked head, and reserves all the memory that it will ever need.
  void begin(const SubmitHead& head, const std::int32_t* prompt, std::unique_ptr<Guidance> what_to_say,
             const Limits& limits, const std::vector<std::int32_t>& eos,
             std::int64_t blocks_max) {  // blocks that its tenant may hold
    priority = head.priority;
    tenant = head.tenant;
    slot = head.slot;
    generation = head.generation;
    prompt_tokens = static_cast<std::int32_t>(head.prompt_tokens);
    tokens_max = static_cast<std::int32_t>(
        std::min({std::int64_t{prompt_tokens} + head.max_tokens, std::int64_t{limits.tokens_max()},
                  blocks_max * limits.block_tokens}));
    tokens.reserve(static_cast<std::size_t>(tokens_max));
    tokens.assign(prompt, prompt + prompt_tokens);
    logprobs.reserve(static_cast<std::size_t>(tokens_max - prompt_tokens));
    blocks.reserve(static_cast<std::size_t>(limits.blocks_for(tokens_max)));
    prefixes.reserve(static_cast<std::size_t>(tokens_max / limits.block_tokens));
    sampling = head.sampling;
    pooling = head.pooling;
    min_tokens = static_cast<std::int32_t>(std::min<std::uint32_t>(head.min_tokens, INT32_MAX));
    if (!sampling.ignore_eos) stops = eos;
    stops.insert(stops.end(), head.stop_token_ids, head.stop_token_ids + head.stop_tokens);
    arrived_s = head.arrived_s;
    deadline_s = head.deadline_s;
    due_s = std::min(deadline_s, arrived_s + kPatience_s);
    begin_counts(limits.vocab);
    guidance = std::move(what_to_say);
    if (head.steering.top_logprobs > 0 || head.steering.prompt_logprobs) {
      telling = std::make_unique<Telling>(head.steering, prompt_tokens);
    }
    guided = held = head.steering.grammar_bytes > 0;
    asks_more = counts || guidance || telling || guided;
    looks_back = counts || guided || (guidance && guidance->looks_back());
  }

  // Adds a token to the output.
  void append(std::int32_t token, float logprob) {
    tokens.push_back(token);
    logprobs.push_back(logprob);
    if (counts) counts->add_output(token);
  }

 private:
  void begin_counts(std::int32_t vocab) {
    const bool repetition = sampling.repetition_penalty != 1.0f;
    if (!repetition && sampling.presence_penalty == 0.0f && sampling.frequency_penalty == 0.0f) return;
    // Only the repetition penalty looks at the prompt.
    const std::int32_t counted = repetition ? tokens_max : tokens_max - prompt_tokens;
    counts = std::make_unique<TokenCounts>(static_cast<std::size_t>(std::min(vocab, counted)));
    if (!repetition) return;
    for (const std::int32_t token : tokens) counts->add_prompt(token);
  }
};

}  // namespace aruntime
