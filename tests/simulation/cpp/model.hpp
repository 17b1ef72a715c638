// The model that a simulated replica runs: how long a step takes, and a shadow of the cache that knows what was written.
//
// A slot of the shadow holds the hash of all tokens up to its own, rooted in the tenant's prefix group. A row of a plan is
// right when every slot that it reads through its block table holds the hash of its own prefix: so a block that was lost,
// lent twice, overwritten, not written yet, or shared with another group is seen at the step that reads it.
// The next token is a function of the last hash read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "ask.hpp"
#include "chance.hpp"
#include "scenario.hpp"
#include "scheduler/scheduler.hpp"

namespace aruntime::simulation {

struct Broken : std::logic_error {
  using std::logic_error::logic_error;
};

inline void must(bool holds, const char* what, std::int64_t one = 0, std::int64_t other = 0) {
  if (!holds) throw Broken(std::string(what) + " (" + std::to_string(one) + ", " + std::to_string(other) + ")");
}

inline constexpr std::int32_t kEos = 2, kFirstToken = 16;

inline double seconds(const StepTime& time, const StepPlan& plan, Chance& chance) {
  double context = 0;
  for (std::int32_t row = 0; row < plan.sequences; ++row) context += plan.context_len[static_cast<std::size_t>(row)];
  const double plain = time.base_s + time.prefill_token_s * (plan.tokens - plan.decodes) +
                       time.decode_s * plan.decodes + time.context_token_s * context;
  return plain * std::exp(time.noise * chance.normal());
}

inline std::uint64_t root_of(std::uint32_t prefix_group) noexcept { return mix(0xC0FFEE, prefix_group); }

// The token after a prefix of `size` tokens, of one that ends with its `wanted`-th.
inline std::int32_t next_token(const Ask& ask, std::int32_t size, std::uint64_t prefix, std::int32_t vocab) noexcept {
  if (size - ask.prompt_tokens >= ask.wanted) return kEos;
  const auto words = static_cast<std::uint64_t>(vocab - kFirstToken);
  return kFirstToken + static_cast<std::int32_t>(mix(prefix, ask.session) % words);
}

class Shadow {
 public:
  explicit Shadow(const Limits& limits)
      : block_tokens_(limits.block_tokens),
        slots_(static_cast<std::size_t>(limits.blocks) * static_cast<std::size_t>(limits.block_tokens), 0) {}

  // Writes a row's tokens and reads its whole context back. Returns the hash at the last.
  std::uint64_t run(const StepPlan& plan, std::int32_t row, const Ask& ask) {
    const auto at = static_cast<std::size_t>(row);
    const std::int32_t begin = plan.query_start[at], end = plan.query_start[at + 1];
    const std::int32_t context = plan.context_len[at], before = context - (end - begin);
    const std::int32_t* table = &plan.block_tables[at * static_cast<std::size_t>(plan.table_stride)];
    must(begin < end && before >= 0, "a row without tokens", row);
    must(context <= static_cast<std::int32_t>(ask.tokens.size()), "tokens that nobody said", context, ask.slot);
    for (std::int32_t token = begin; token < end; ++token) {
      const auto t = static_cast<std::size_t>(token);
      const std::int32_t position = before + token - begin;
      must(plan.positions[t] == position, "a wrong position", plan.positions[t], position);
      const bool sampled_before = row < plan.decodes && plan.token_source[at] >= 0;
      must(sampled_before || plan.token_ids[t] == ask.tokens[static_cast<std::size_t>(position)], "a wrong token",
           position, ask.slot);
      must(plan.slot_mapping[t] == slot(table, position), "a slot that is not in the table", position, ask.slot);
      slots_.at(static_cast<std::size_t>(plan.slot_mapping[t])) = ask.hashes[static_cast<std::size_t>(position)];
    }
    read_back(table, context, ask);
    return ask.hashes[static_cast<std::size_t>(context - 1)];
  }

  // What a fault injected on purpose does: one slot loses what was written to it.
  void forget(std::int32_t slot) { slots_.at(static_cast<std::size_t>(slot)) = 0; }

 private:
  std::int32_t slot(const std::int32_t* table, std::int32_t position) const noexcept {
    return table[position / block_tokens_] * block_tokens_ + position % block_tokens_;
  }

  void read_back(const std::int32_t* table, std::int32_t context, const Ask& ask) const {
    for (std::int32_t position = 0; position < context; position += block_tokens_) {
      const auto first = slots_.begin() + slot(table, position);
      const std::int32_t count = std::min(block_tokens_, context - position);
      must(std::equal(first, first + count, ask.hashes.begin() + position),
           "a context that was not written for this prefix", ask.slot, position);
    }
  }

  std::int32_t block_tokens_;
  std::vector<std::uint64_t> slots_;
};

}  // namespace aruntime::simulation
