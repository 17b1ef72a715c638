// Draw the next token of each row; kernels/aruntime_kernels/sample.py holds the contract and the reference.
//
//   peak     the largest logit and its lowest id: the answer at temperature 0
//   least    the least logit that top_k and min_p keep; the k-th largest by bisection over the order of float32
//   race     argmax of x - temperature * log(e), 64 tokens at a time; e comes from Philox4x32-10 (Salmon et al., 2011)
//   top_p    a winner with too much mass above it is out, and so is all that is not above it: run the race again there
//
// -log(e) cannot exceed kNoiseMax, so 64 tokens whose largest logit is too far below the leader are passed over.
#pragma once

#include "cpu/ops.hpp"
#include "cpu/pool.hpp"
#include "cpu/rows.hpp"

namespace aruntime::cpu {
namespace {

constexpr int kDrawn = 64;          // tokens drawn together: 16 Philox counters of 4 words
constexpr float kNoiseMax = 22.2f;  // 32 ln 2
constexpr float kLowest = -__builtin_inff();

// Natural logarithm to 2 ulp for normal x > 0. Cephes logf: x = 2^e m, m in [sqrt(1/2), sqrt(2)), polynomial in m - 1.
inline Vec log(Vec x) {
  const Words bits = (Words)x - 0x3f3504f3u;  // the fraction overflows into the exponent at sqrt(1/2)
  const Vec e = __builtin_convertvector((Ints)bits >> 23, Vec);
  const Vec f = (Vec)((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  Vec p = broadcast(7.0376836292e-2f);
  p = p * f + -1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f + -1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f + -1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f + -2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const Vec square = f * f;
  return (f + (p * f * square + (e * -2.12194440e-4f - square * 0.5f))) + e * 0.693359375f;
}

// Words of the tokens [first, first + kDrawn), in the order of their ids; first is a multiple of 4. The compiler makes
// vectors of the counters once the rounds are unrolled.
inline void draw(std::uint64_t seed, std::uint32_t position, std::int64_t first, std::uint32_t* words) {
  for (int i = 0; i < kDrawn / 4; ++i) {
    std::uint32_t a = static_cast<std::uint32_t>(first / 4 + i), b = 0, c = position, d = 0;
    std::uint32_t low_key = static_cast<std::uint32_t>(seed), high_key = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round, low_key += 0x9e3779b9u, high_key += 0xbb67ae85u) {
      const std::uint64_t left = std::uint64_t{0xd2511f53u} * a, right = std::uint64_t{0xcd9e8d57u} * c;
      a = static_cast<std::uint32_t>(right >> 32) ^ b ^ low_key;
      b = static_cast<std::uint32_t>(right);
      c = static_cast<std::uint32_t>(left >> 32) ^ d ^ high_key;
      d = static_cast<std::uint32_t>(left);
    }
    words[4 * i] = a, words[4 * i + 1] = b, words[4 * i + 2] = c, words[4 * i + 3] = d;
  }
}

// The exponential variable of each word; the series where 1 - v would round v's low bits away.
inline Vec exponential(const std::uint32_t* words) {
  Vec v = __builtin_convertvector((Ints)(load_as<Words>(words) >> 1), Vec);
  v = larger(v, broadcast(0.5f)) * 0x1p-31f;
  v = v < 1 - 0x1p-24f ? v : broadcast(1 - 0x1p-24f);
  const Vec series = v * (v * (v * (1.0f / 3) + 0.5f) + 1.0f);
  return v < 0x1p-6f ? series : -log(1.0f - v);
}

// The float32 as an integer of the same order, and back.
inline std::int32_t ordered(float value) {
  const std::int32_t bits = __builtin_bit_cast(std::int32_t, value);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
inline float unordered(std::int32_t order) {
  return __builtin_bit_cast(float, order >= 0 ? order : order ^ 0x7fffffff);
}

inline float largest_lane(Vec lanes) {
  return fold(lanes, [](Vec a, Vec b) { return larger(a, b); });
}

struct Row {
  const float* logits;
  std::int64_t vocab;

  // kLanes logits from `begin` on; a NaN and what lies beyond the end count as minus infinity.
  Vec at(std::int64_t begin) const {
    const std::int64_t rest = vocab - begin;
    const Vec x = rest >= kLanes ? load(logits + begin)
                  : rest > 0     ? load_some(logits + begin, rest, kLowest)
                                 : broadcast(kLowest);
    return x == x ? x : broadcast(kLowest);
  }

  // Sum of term(x) over all logits, in kReduce partial sums.
  template <class Term>
  float sum(Term term) const {
    Vec partial[kReduce / kLanes] = {};
    for (std::int64_t i = 0; i < vocab; i += kReduce) {
      for (int v = 0; v < kReduce / kLanes; ++v) partial[v] += term(at(i + v * kLanes));
    }
    return fold(partial, [](Vec a, Vec b) { return a + b; });
  }

  // The lowest id of the largest logit.
  std::int64_t peak() const {
    Vec largest = broadcast(kLowest);
    for (std::int64_t i = 0; i < vocab; i += kLanes) largest = larger(at(i), largest);
    const float value = largest_lane(largest);
    std::int64_t id = 0;
    if (value > kLowest) {
      while (logits[id] != value) ++id;
    }
    return id;
  }

  // The k-th largest logit: the largest bound that k logits reach.
  float kth_largest(std::int32_t k, float highest) const {
    std::int64_t low = ordered(kLowest), high = ordered(highest);
    while (low < high) {
      const std::int64_t middle = (low + high + 1) >> 1;
      const float bound = unordered(static_cast<std::int32_t>(middle));
      const float reach = sum([bound](Vec x) { return x >= bound ? broadcast(1.0f) : Vec{}; });
      if (reach == static_cast<float>(k)) return bound;  // not the k-th itself, but it keeps the same
      if (reach > static_cast<float>(k)) low = middle;
      else high = middle - 1;
    }
    return unordered(static_cast<std::int32_t>(low));
  }

  // Mass of the logits of at least `least` and more than `above`.
  float mass(float least, float above, float highest, float temperature) const {
    return sum([=](Vec x) { return ((x >= least) & (x > above)) ? exp((x - highest) / temperature) : Vec{}; });
  }

  float log_probability(std::int64_t token, float highest) const {
    const float total = sum([highest](Vec x) { return exp(x - highest); });
    return logits[token] - highest - log(broadcast(total))[0];
  }
};

struct Race {
  Row row;
  float temperature, least;
  std::uint64_t seed;
  std::int32_t position;

  // The winner among the logits of at least `least` and more than `above`; `leader` when there is none.
  std::int64_t run(float above, std::int64_t leader) const {
    float lead = kLowest;
    for (std::int64_t first = 0; first < row.vocab; first += kDrawn) {
      Vec x[kDrawn / kLanes], largest = broadcast(kLowest);
      for (int v = 0; v < kDrawn / kLanes; ++v) {
        const Vec logits = row.at(first + v * kLanes);
        x[v] = ((logits >= least) & (logits > above)) ? logits : broadcast(kLowest);
        largest = larger(x[v], largest);
      }
      const float best = largest_lane(largest);
      if (best == kLowest || best + kNoiseMax * temperature < lead) continue;
      std::uint32_t words[kDrawn];
      draw(seed, static_cast<std::uint32_t>(position), first, words);
      for (int v = 0; v < kDrawn / kLanes; ++v) {
        const Vec value = x[v] - temperature * log(exponential(words + v * kLanes));
        if (!(largest_lane(value) > lead)) continue;
        for (int lane = 0; lane < kLanes; ++lane) {
          if (value[lane] > lead) lead = value[lane], leader = first + v * kLanes + lane;
        }
      }
    }
    return leader;
  }
};

inline std::int64_t draw_token(const Row& row, const Sampling& job, std::int64_t r, std::int64_t peak) {
  const float temperature = job.temperature[r], top_p = job.top_p[r], min_p = job.min_p[r], highest = row.logits[peak];
  const std::int32_t k = job.top_k[r];
  float least = k > 0 && k < row.vocab ? row.kth_largest(k, highest) : kLowest;
  const float whole = top_p < 1 ? row.mass(least, kLowest, highest, temperature) : 0;
  if (min_p > 0) least = larger(least, highest + temperature * log(broadcast(min_p < 1 ? min_p : 1.0f))[0]);
  const Race race{row, temperature, least, static_cast<std::uint64_t>(job.seed[r]), job.position[r]};
  for (float above = kLowest;;) {
    const std::int64_t token = race.run(above, peak);
    if (!(top_p < 1) || token == peak || row.logits[token] == highest) return token;
    above = row.logits[token];
    if (row.mass(least, above, highest, temperature) < top_p * whole) return token;
  }
}

void sample(const Sampling& job) {
  for_rows(job.logits.rows, 4 * job.logits.columns, [&](std::int64_t r) {
    const Row row{job.logits.data + r * job.logits.stride, job.logits.columns};
    const std::int64_t peak = row.peak();
    const std::int64_t token = job.temperature[r] > 0 ? draw_token(row, job, r, peak) : peak;
    job.out[r] = static_cast<std::int32_t>(token);
    if (job.logprob) job.logprob[r] = row.log_probability(token, row.logits[peak]);
  });
}

}  // namespace
}  // namespace aruntime::cpu
