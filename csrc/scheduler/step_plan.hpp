// The tokens of one step, as plain columns that a model reads.
//
//   T tokens, of S sequences in order, decodes first; R of them, in the same order, have their last logits sampled
//   E of them give their states to a pool instead, with their last token or with all of them
//
// Columns keep their place and capacity for life (but those of what few ask for, from `banned_row` on, which grow), so a
// step allocates nothing.
// The block tables of the last plan stay where they are: a sequence that keeps its row adds its new block only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "scheduler/pace.hpp"
#include "scheduler/sequence.hpp"

namespace aruntime {

// A sequence's part in a step. It holds only while `residence` is the sequence's: a sequence that was cancelled or
// preempted since has lost it.
struct Planned {
  Sequence* sequence;
  std::uint64_t residence;
  std::int32_t tokens;
  std::int32_t sample_row;  // kNoSample: the chunk ends before the prompt does
};
inline constexpr std::int32_t kNoSample = -1;
inline constexpr std::int32_t kPooled = -2;  // in place of a sample: the prompt ends, and its vector is made

// What else is wanted of a part.
struct PlannedTelling {
  std::int32_t part;
  std::int32_t likely_row;  // -1: nobody wants its alternatives
  std::int32_t scored_row;  // the first of those that are scored
  std::int32_t scored;
};

class StepPlan {
 public:
  template <typename Value>
  using Column = std::vector<Value>;

  StepWork work;
  double planned_s = 0.0;
  std::int32_t tokens = 0, sequences = 0, samples = 0, decodes = 0;
  std::int32_t table_blocks = 0;  // of the widest table in this step
  std::int32_t table_stride = 0;  // int32s from one row of block_tables to the next

  Column<std::int32_t> token_ids, positions, slot_mapping;               // [T]
  // [decodes] the row of the step before whose sample is this token; -1 when the token is known.
  Column<std::int32_t> token_source;
  Column<std::int32_t> query_start;                                      // [S + 1]
  Column<std::int32_t> context_len;                                      // [S] tokens in the cache after this step
  Column<std::int32_t> block_tables;                                     // [S, table_stride], padded with 0
  Column<std::int32_t> sample_index;                                     // [R] rows of T
  Column<float> temperature, top_p, min_p;                               // [R]
  Column<float> presence_penalty, frequency_penalty, repetition_penalty; // [R]
  Column<std::int32_t> top_k;                                            // [R]
  Column<std::uint64_t> seed;                                            // [R]
  Column<std::int32_t> position;                                         // [R] ordinal of the token in the output
  Column<std::int32_t> banned_row, banned_token;                         // tokens that this sample must not give
  Column<std::int32_t> bias_row, bias_token;                             // each pair once
  Column<float> bias;                                                    // what is added to its logit
  Column<std::int32_t> guided_row, guided_token;                         // whom a grammar leads; what it said last, or -1
  Column<std::int32_t> penalty_row, penalty_token, penalty_output_count, penalty_in_prompt;  // one a distinct token
  Column<std::int32_t> pool_sequence, pool_start, pool_end;  // [E] which of S; the rows of T that count, from and up to
  Column<std::int32_t> pool_place;                           // [E] where their sum is kept
  Column<std::int32_t> pool_carry;                           // [E] 1: it goes on from the sum that is there
  Column<std::int32_t> pool_divisor;                         // [E] 0: the sum is kept; else the vector is the sum by this

  Column<std::int32_t> likely_row;                                       // rows of R whose likeliest tokens are wanted
  Column<std::int32_t> scored_index, scored_token;                       // rows of T, and the token whose logprob is wanted
  std::int32_t top = 0;                                                  // how many likely tokens, at most, of all these

  bool rare = false;                                                     // whether any column from `banned_row` on has a row
  Column<Planned> planned;         // [S]; empty again once committed
  Column<PlannedTelling> telling;  // in the order of `planned`

  StepPlan(const Limits& limits, std::size_t eos_tokens)
      : table_stride(limits.blocks_for(limits.tokens_max())), block_tokens_(limits.block_tokens) {
    const auto t = static_cast<std::size_t>(limits.step_tokens_max), s = static_cast<std::size_t>(limits.sequences_max);
    for (auto* column : {&token_ids, &positions, &slot_mapping}) column->resize(t);
    for (auto* column : {&token_source, &context_len, &sample_index, &top_k, &position}) column->resize(s);
    for (auto* column : {&temperature, &top_p, &min_p, &presence_penalty, &frequency_penalty, &repetition_penalty}) {
      column->resize(s);
    }
    for (auto* column : {&banned_row, &banned_token}) column->reserve(s * (eos_tokens + kStopTokensMax));
    query_start.resize(s + 1);
    seed.resize(s);
    block_tables.resize(s * static_cast<std::size_t>(table_stride));
    rows_.resize(s);
    planned.reserve(s);
  }

  void clear() noexcept {
    tokens = sequences = samples = decodes = table_blocks = 0;
    work = {};
    planned.clear();
    if (rare) clear_rare();
  }

  // Adds the next `count` tokens of `sequence`, whose blocks are there. They are sampled, or its vector is made, if they
  // end its tokens.
  void add(Sequence& sequence, std::int32_t count) {
    const std::int32_t from = sequence.planned, end = from + count;
    const auto row = static_cast<std::size_t>(sequences++);
    token_source[row] = end > sequence.size() ? sequence.sample_row : -1;
    add_tokens(sequence, from, end);
    sequence.planned = end;
    query_start[row + 1] = tokens;
    context_len[row] = end;
    write_table(row, sequence);
    const bool ends = end == sequence.size() + sequence.pending;
    const bool pools = sequence.pooling != Pooling::kNone;
    planned.push_back({&sequence, sequence.residence, count, !ends ? kNoSample : pools ? kPooled : samples});
    if (sequence.asks_more && sequence.telling) add_telling(*sequence.telling, sequence, from, end);
    if (pools) {
      add_pool(sequence, from, ends);
    } else if (ends) {
      add_sample(sequence);
    }
  }

 private:
  void clear_rare() noexcept {
    for (auto* column : {&penalty_row, &penalty_token, &penalty_output_count, &penalty_in_prompt, &banned_row,
                         &banned_token, &bias_row, &bias_token, &guided_row, &guided_token, &likely_row, &scored_index,
                         &scored_token, &pool_sequence, &pool_start, &pool_end, &pool_place, &pool_carry,
                         &pool_divisor}) {
      column->clear();
    }
    bias.clear();
    telling.clear();
    top = 0;
    rare = false;
  }

  // What a row of block_tables holds already.
  struct Row {
    std::uint64_t residence = 0;
    std::int32_t blocks = 0;
  };

  void add_tokens(const Sequence& sequence, std::int32_t from, std::int32_t end) noexcept {
    for (std::int32_t at = from; at < end;) {
      const std::int32_t block = at / block_tokens_;
      const std::int32_t block_end = std::min(end, (block + 1) * block_tokens_);
      const std::int32_t shift = (sequence.blocks[static_cast<std::size_t>(block)] - block) * block_tokens_;
      for (; at < block_end; ++at, ++tokens) {
        const auto row = static_cast<std::size_t>(tokens);
        token_ids[row] = at < sequence.size() ? sequence.tokens[static_cast<std::size_t>(at)] : 0;
        positions[row] = at;
        slot_mapping[row] = at + shift;
      }
    }
  }

  void write_table(std::size_t row, const Sequence& sequence) noexcept {
    Row& held = rows_[row];
    std::int32_t* table = &block_tables[row * static_cast<std::size_t>(table_stride)];
    const auto blocks = static_cast<std::int32_t>(sequence.blocks.size());
    const std::int32_t kept = held.residence == sequence.residence ? held.blocks : 0;
    std::copy(sequence.blocks.begin() + kept, sequence.blocks.end(), table + kept);
    if (held.blocks > blocks) std::fill(table + blocks, table + held.blocks, 0);
    held = {sequence.residence, blocks};
    table_blocks = std::max(table_blocks, blocks);
  }

  void add_sample(Sequence& sequence) {
    sequence.sample_row = samples;
    const auto row = static_cast<std::size_t>(samples++);
    const std::int32_t ordinal = sequence.outputs() + sequence.pending++;
    const SamplingParams& sampling = sequence.sampling;
    sample_index[row] = tokens - 1;
    temperature[row] = sampling.temperature;
    top_p[row] = sampling.top_p;
    min_p[row] = sampling.min_p;
    presence_penalty[row] = sampling.presence_penalty;
    frequency_penalty[row] = sampling.frequency_penalty;
    repetition_penalty[row] = sampling.repetition_penalty;
    top_k[row] = sampling.top_k;
    seed[row] = sampling.seed;
    position[row] = ordinal;
    if (ordinal < sequence.min_tokens || sequence.asks_more) add_rare(sequence, static_cast<std::int32_t>(row), ordinal);
  }

  void add_rare(const Sequence& sequence, std::int32_t at, std::int32_t ordinal) {
    rare = true;
    if (ordinal < sequence.min_tokens) {
      for (const std::int32_t token : sequence.stops) ban(at, token);
    }
    if (sequence.counts) penalize(at, *sequence.counts);
    if (sequence.guidance) guide(at, sequence, *sequence.guidance);
    if (sequence.guided) {
      guided_row.push_back(at);
      guided_token.push_back(sequence.outputs() > 0 ? sequence.tokens.back() : -1);
    }
  }

  // The tokens from `from` up to `end` have just been added; the last is sampled next, if at all.
  void add_telling(const Telling& wanted, const Sequence& sequence, std::int32_t from, std::int32_t end) {
    const std::int32_t first = std::max(from, wanted.scored), last = std::min(end, wanted.rows);
    PlannedTelling part{sequences - 1, -1, static_cast<std::int32_t>(scored_index.size()), std::max(0, last - first)};
    for (std::int32_t at = first; at < last; ++at) {
      scored_index.push_back(tokens - (end - at));
      scored_token.push_back(sequence.tokens[static_cast<std::size_t>(at + 1)]);
    }
    if (const std::int32_t row = planned.back().sample_row; wanted.top > 0 && row >= 0) {
      part.likely_row = static_cast<std::int32_t>(likely_row.size());
      likely_row.push_back(row);
    }
    if (part.scored == 0 && part.likely_row < 0) return;
    telling.push_back(part);
    top = std::max(top, wanted.top);
    rare = true;
  }

  void ban(std::int32_t row, std::int32_t token) {
    banned_row.push_back(row);
    banned_token.push_back(token);
  }

  void guide(std::int32_t row, const Sequence& sequence, const Guidance& guidance) {
    bias_row.insert(bias_row.end(), guidance.bias_token.size(), row);
    bias_token.insert(bias_token.end(), guidance.bias_token.begin(), guidance.bias_token.end());
    bias.insert(bias.end(), guidance.bias.begin(), guidance.bias.end());
    guidance.each_ban(sequence.tokens.data() + sequence.prompt_tokens, static_cast<std::size_t>(sequence.outputs()),
                      [&](std::int32_t token) { ban(row, token); });
  }

  // The tokens from the place `from` on, just added, give their states to a pool.
  void add_pool(Sequence& sequence, std::int32_t from, bool ends) {
    sequence.pending += ends;  // of its vector, as of a sample: nothing more is computed for it
    const bool mean = sequence.pooling == Pooling::kMean;
    if (!mean && !ends) return;
    rare = true;
    pool_sequence.push_back(sequences - 1);
    pool_start.push_back(mean ? query_start[static_cast<std::size_t>(sequences - 1)] : tokens - 1);
    pool_end.push_back(tokens);
    pool_place.push_back(sequence.pool_place);
    pool_carry.push_back(mean && from > 0);
    pool_divisor.push_back(!ends ? 0 : mean ? sequence.prompt_tokens : 1);
  }

  void penalize(std::int32_t row, const TokenCounts& counts) {
    penalty_row.insert(penalty_row.end(), counts.token().size(), row);
    penalty_token.insert(penalty_token.end(), counts.token().begin(), counts.token().end());
    penalty_output_count.insert(penalty_output_count.end(), counts.output_count().begin(), counts.output_count().end());
    penalty_in_prompt.insert(penalty_in_prompt.end(), counts.in_prompt().begin(), counts.in_prompt().end());
  }

  std::int32_t block_tokens_;
  std::vector<Row> rows_;
};

}  // namespace aruntime
