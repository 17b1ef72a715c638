// The likeliest tokens of a row, and how likely they and a given one are.
//
// One look finds them: most of a row is below the last of those found so far, and is passed by a vector at a time.
#pragma once

#include "cpu/sample.hpp"

namespace aruntime::cpu {
namespace {

// Puts `value` of `token` behind all that are not less. Tokens come in rising order, so of equals the lowest id is first.
inline void insert(std::int32_t* tokens, float* values, std::int64_t top, std::int32_t token, float value) {
  std::int64_t place = top - 1;
  for (; place > 0 && values[place - 1] < value; --place) {
    values[place] = values[place - 1];
    tokens[place] = tokens[place - 1];
  }
  values[place] = value;
  tokens[place] = token;
}

inline void find_likeliest(const Row& row, std::int32_t* tokens, float* values, std::int64_t top) {
  for (std::int64_t i = 0; i < top; ++i) tokens[i] = -1, values[i] = kLowest;
  for (std::int64_t first = 0; top > 0 && first < row.vocab; first += kLanes) {
    const Vec x = row.at(first);
    if (!(largest_lane(x) > values[top - 1])) continue;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      if (x[lane] > values[top - 1]) insert(tokens, values, top, static_cast<std::int32_t>(first + lane), x[lane]);
    }
  }
}

void likeliest(const Likeliest& job) {
  for_rows(job.count, 4 * job.logits.columns, [&](std::int64_t r) {
    const Row row{job.logits.data + job.row[r] * job.logits.stride, job.logits.columns};
    const float highest = row.logits[row.peak()];
    const float total = log(broadcast(row.sum([highest](Vec x) { return exp(x - highest); })))[0];
    job.logprob[r] = row.logits[job.token[r]] - highest - total;
    std::int32_t* tokens = job.top_token + r * job.top;
    float* logprobs = job.top_logprob + r * job.top;
    find_likeliest(row, tokens, logprobs, job.top);
    for (std::int64_t i = 0; i < job.top; ++i) logprobs[i] = logprobs[i] - highest - total;
  });
}

}  // namespace
}  // namespace aruntime::cpu
