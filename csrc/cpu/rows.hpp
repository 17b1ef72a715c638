// The operations that work row by row: embed, rms_norm, rotary, silu_mul, store_kv.
#pragma once

#include "cpu/ops.hpp"
#include "cpu/pool.hpp"
#include "cpu/simd.hpp"

namespace aruntime::cpu {
namespace {

// Calls body(row) for [0, rows), by several threads when it is worth waking them.
template <class Body>
inline void for_rows(std::int64_t rows, std::int64_t columns, Body body) {
  constexpr std::int64_t kWorth = 1 << 15;  // elements: about 5 us
  const std::int64_t chunks = most(1, least(least(rows, 8 * threads()), rows * columns / kWorth));
  parallel(chunks, [&](std::int64_t chunk) {
    for (std::int64_t row = chunk * rows / chunks; row < (chunk + 1) * rows / chunks; ++row) body(row);
  });
}

template <class From, class To>
inline void convert(const From* from, To* to, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, auto load, auto store) { store(to + i, load(from + i)); });
}

void embed(const std::int32_t* token_ids, const Table& table, const Matrix& out) {
  for_rows(out.rows, out.columns, [&](std::int64_t t) {
    float* to = out.data + t * out.stride;
    const std::int64_t begin = token_ids[t] * table.columns;
    table.element == Element::kFloat32 ? convert(static_cast<const float*>(table.data) + begin, to, out.columns)
                                       : convert(static_cast<const Bf16*>(table.data) + begin, to, out.columns);
  });
}

void store_kv(const Heads& source, const Table& cache, const std::int32_t* slot_mapping) {
  for_rows(source.tokens, cache.columns, [&](std::int64_t t) {
    if (slot_mapping[t] < 0) return;
    for (std::int64_t h = 0; h < source.heads; ++h) {
      const float* from = source.data + t * source.token_stride + h * source.head_stride;
      const std::int64_t to = slot_mapping[t] * cache.columns + h * source.size;
      cache.element == Element::kFloat32 ? convert(from, static_cast<float*>(cache.data) + to, source.size)
                                         : convert(from, static_cast<Bf16*>(cache.data) + to, source.size);
    }
  });
}

// The sum of squares of a row, in kReduce partial sums.
inline float squares(const float* row, std::int64_t count) {
  Vec partial[kReduce / kLanes] = {};
  for (std::int64_t i = 0; i < count; i += kReduce) {
    for (int v = 0; v < kReduce / kLanes; ++v) {
      const std::int64_t begin = i + v * kLanes, rest = count - begin;
      const Vec x = rest >= kLanes ? load(row + begin) : load_some(row + begin, rest);
      partial[v] += x * x;
    }
  }
  return fold(partial, [](Vec a, Vec b) { return a + b; });
}

void rms_norm(const Heads& x, const float* weight, const Heads& out, float eps, const Heads* residual) {
  for_rows(x.tokens * x.heads, x.size, [&](std::int64_t row) {
    const auto at = [&](const Heads& heads) {
      return heads.data + row / heads.heads * heads.token_stride + row % heads.heads * heads.head_stride;
    };
    const float* from = at(x);
    if (residual) {
      float* sum = at(*residual);
      for_lanes(x.size, [&](std::int64_t i, auto load, auto store) { store(sum + i, load(sum + i) + load(from + i)); });
      from = sum;
    }
    const float scale = 1 / __builtin_sqrtf(squares(from, x.size) / static_cast<float>(x.size) + eps);
    float* to = at(out);
    for_lanes(x.size, [&](std::int64_t i, auto load, auto store) {
      store(to + i, load(from + i) * scale * load(weight + i));
    });
  });
}

inline void rotate(const Heads& heads, std::int64_t t, const float* cosines, const float* sines) {
  const std::int64_t half = heads.size / 2;
  for (std::int64_t h = 0; h < heads.heads; ++h) {
    float* low = heads.data + t * heads.token_stride + h * heads.head_stride;
    float* high = low + half;
    for_lanes(half, [&](std::int64_t i, auto load, auto store) {
      const Vec x = load(low + i), y = load(high + i), c = load(cosines + i), s = load(sines + i);
      store(low + i, x * c - y * s);
      store(high + i, y * c + x * s);
    });
  }
}

void rotary(const Heads& query, const Heads& key, const std::int32_t* positions, const float* cos_sin) {
  for_rows(query.tokens, (query.heads + key.heads) * query.size, [&](std::int64_t t) {
    const float* cosines = cos_sin + positions[t] * query.size;
    rotate(query, t, cosines, cosines + query.size / 2);
    rotate(key, t, cosines, cosines + query.size / 2);
  });
}

void silu_mul(const Matrix& gate_up, const Matrix& out) {
  for_rows(out.rows, 4 * out.columns, [&](std::int64_t t) {
    const float* gate = gate_up.data + t * gate_up.stride;
    const float* up = gate + out.columns;
    float* to = out.data + t * out.stride;
    for_lanes(out.columns, [&](std::int64_t i, auto load, auto store) {
      const Vec g = load(gate + i);
      store(to + i, g / (exp(-g) + 1.0f) * load(up + i));
    });
  });
}

}  // namespace
}  // namespace aruntime::cpu
