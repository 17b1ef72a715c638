// Paged attention for CPU tensors; decode is the case of one query a sequence.
//
//   for each (sequence, kv head, up to kQueries rows):          row = (query, query head of the kv head's group)
//     for each chunk of kChunk keys, by position:
//       gather    keys (transposed) and values of the chunk out of their blocks, once for all rows
//       scores    rows x size times size x keys          the product of tile.hpp
//       softmax   online (Milakov and Gimelshein 2018): running maximum and sum by row
//       sum       rows x keys times keys x size          the product of tile.hpp
//
// Chunks begin at multiples of kChunk of the key's position, and a key that a row does not see weighs exactly 0: so a
// row's bits are the same in decode and in any prefill, alone and among others.
#pragma once

#include "cpu/pool.hpp"
#include "cpu/tile.hpp"

namespace aruntime::cpu {
namespace {

constexpr std::int64_t kChunk = 64;
constexpr std::int64_t kQueries = 10 * kTileRows;  // rows that share the gathered keys
constexpr float kNothing = -1e30f;  // a maximum below every score, and finite: exp(kNothing - kNothing) is 1

using Eight = float __attribute__((vector_size(32)));

inline Eight load_eight(const float* from) { return load_as<Eight>(from); }
inline Eight load_eight(const Bf16* from) {
  using Narrow = std::uint16_t __attribute__((vector_size(16)));
  using Wide = std::uint32_t __attribute__((vector_size(32)));
  return (Eight)(__builtin_convertvector(load_as<Narrow>(from), Wide) << 16);
}
inline float load_one(const float* from) { return *from; }
inline float load_one(const Bf16* from) {
  const std::uint32_t bits = std::uint32_t{from->bits} << 16;
  return __builtin_bit_cast(float, bits);
}

// Elements of a and b side by side, by number.
template <int... kFrom>
inline Eight pick(Eight a, Eight b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kFrom...);
#else
  using Numbers = std::int32_t __attribute__((vector_size(32)));
  return __builtin_shuffle(a, b, Numbers{kFrom...});
#endif
}

// to[d * kPanel + j] = rows[j][d] for 8 rows and 8 d.
template <class Stored>
inline void transpose_eight(const Stored* const* rows, std::int64_t d, float* to) {
  Eight r[8], t[8];
  for (int j = 0; j < 8; ++j) r[j] = load_eight(rows[j] + d);
  for (int j = 0; j < 8; j += 2) {
    t[j] = pick<0, 8, 1, 9, 4, 12, 5, 13>(r[j], r[j + 1]);
    t[j + 1] = pick<2, 10, 3, 11, 6, 14, 7, 15>(r[j], r[j + 1]);
  }
  for (int j = 0; j < 8; j += 4) {
    for (int i = 0; i < 2; ++i) {
      r[j + 2 * i] = pick<0, 1, 8, 9, 4, 5, 12, 13>(t[j + i], t[j + i + 2]);
      r[j + 2 * i + 1] = pick<2, 3, 10, 11, 6, 7, 14, 15>(t[j + i], t[j + i + 2]);
    }
  }
  for (int j = 0; j < 4; ++j) {
    t[j] = pick<0, 1, 2, 3, 8, 9, 10, 11>(r[j], r[j + 4]);
    t[j + 4] = pick<4, 5, 6, 7, 12, 13, 14, 15>(r[j], r[j + 4]);
  }
  for (int j = 0; j < 8; ++j) __builtin_memcpy(to + j * kPanel, &t[j], sizeof t[j]);
}

// One chunk of keys and values as the products want them. Its rows lie anywhere, the processor foresees none of them:
// `ask` prefetches the next chunk's rows while this one's softmax is computed.
template <class Stored>
struct Gathered {
  const Attention& job;
  std::int64_t size;
  float* keys;    // [kChunk / kPanel] panels of [size, kPanel]
  float* values;  // [ceil(size / kPanel)] panels of [kChunk, kPanel]
  const std::int32_t* blocks;
  std::int64_t kv_head, begin, end;  // positions outside [begin, end) read as zeros

  using Places = std::int64_t[kChunk];  // of a row in its cache, -1 for zeros

  void locate(std::int64_t chunk, Places& places) const {
    for (std::int64_t j = 0; j < kChunk;) {
      const std::int64_t block = (chunk + j) / job.block_tokens;
      const std::int64_t next = least(kChunk, (block + 1) * job.block_tokens - chunk);
      for (; j < next; ++j) {
        const std::int64_t position = chunk + j;
        const bool seen = position >= begin && position < end;
        const std::int64_t row = seen ? blocks[block] * job.block_tokens + position - block * job.block_tokens : 0;
        places[j] = seen ? row * job.key_cache.columns + kv_head * size : -1;
      }
    }
  }

  const Stored* row(const Table& cache, std::int64_t place) const {
    alignas(64) static constexpr Stored kZeros[1024] = {};
    return place < 0 ? kZeros : static_cast<const Stored*>(cache.data) + place;
  }

  // Part `part` of `parts` of the rows at these places.
  void ask(const Places& places, std::int64_t part, std::int64_t parts) const {
    constexpr std::int64_t kLine = 64 / sizeof(Stored);
    asm volatile("");  // GCC takes a function that only prefetches for one without effect, and drops its calls
    for (std::int64_t j = part * kChunk / parts; j < (part + 1) * kChunk / parts; ++j) {
      for (std::int64_t d = 0; d < size; d += kLine) __builtin_prefetch(row(job.key_cache, places[j]) + d);
      for (std::int64_t d = 0; d < size; d += kLine) __builtin_prefetch(row(job.value_cache, places[j]) + d);
    }
  }

  void load_keys(const Places& places) const {
    for (std::int64_t j = 0; j < kChunk; j += 8) {
      const Stored* key[8];
      for (int i = 0; i < 8; ++i) key[i] = row(job.key_cache, places[j + i]);
      float* panel = keys + j / kPanel * size * kPanel + j % kPanel;
      std::int64_t d = 0;
      for (; d + 8 <= size; d += 8) transpose_eight(key, d, panel + d * kPanel);
      for (; d < size; ++d) {
        for (int i = 0; i < 8; ++i) panel[d * kPanel + i] = load_one(key[i] + d);
      }
    }
  }

  void load_values(const Places& places) const {
    for (std::int64_t j = 0; j < kChunk; ++j) {
      const Stored* value = row(job.value_cache, places[j]);
      for_lanes(size, [&](std::int64_t d, auto load, auto) {
        store(values + d / kPanel * kChunk * kPanel + j * kPanel + d % kPanel, load(value + d));
      });
    }
  }
};

// The state of the online softmax for the rows of one item.
struct Rows {
  Tiles tiles;
  std::int64_t size, padded;  // padded: size in whole panels
  float *query;               // scaled, interleaved by tile
  float *weights;             // [rows, kChunk]: scores, then their exponentials
  float *sums;                // [rows, padded]
  float *maximum, *total;     // [rows]

  void start() const {
    __builtin_memset(sums, 0, tiles.rows * padded * sizeof(float));
    for (std::int64_t r = 0; r < tiles.rows; ++r) maximum[r] = kNothing, total[r] = 0;
  }

  void score(const float* keys, std::int64_t count) const {
    __builtin_memset(weights, 0, tiles.rows * kChunk * sizeof(float));
    for (std::int64_t j = 0; j < count; j += kPanel) {
      for (std::int64_t t = 0; t < tiles.count; ++t) {
        tile_rows<0>(tiles.size(t), query + tiles.first(t) * size, keys + j * size, {keys, 0}, size,
                     weights + tiles.first(t) * kChunk + j, kChunk);
      }
    }
  }

  // Row r sees the chunk's keys [from, to).
  void soften(std::int64_t r, std::int64_t from, std::int64_t to) const {
    constexpr int kVectors = kChunk / kLanes, kPartial = kReduce / kLanes;
    float* row = weights + r * kChunk;
    Vec score[kVectors], partial[kPartial];
    for (int v = 0; v < kVectors; ++v) score[v] = load(row + v * kLanes);
    if (from > 0 || to < kChunk) {
      Ints lane = lane_numbers();
      for (int v = 0; v < kVectors; ++v, lane += kLanes) {
        const Ints seen = (lane >= static_cast<std::int32_t>(from)) & (lane < static_cast<std::int32_t>(to));
        score[v] = seen ? score[v] : broadcast(-__builtin_inff());
      }
    }
    for (int v = 0; v < kPartial; ++v) partial[v] = score[v];
    for (int v = kPartial; v < kVectors; ++v) partial[v % kPartial] = larger(partial[v % kPartial], score[v]);
    const float highest = larger(fold(partial, [](Vec a, Vec b) { return larger(a, b); }), maximum[r]);
    for (int v = 0; v < kVectors; ++v) store(row + v * kLanes, score[v] = exp(score[v] - highest));
    for (int v = 0; v < kPartial; ++v) partial[v] = score[v];
    for (int v = kPartial; v < kVectors; ++v) partial[v % kPartial] += score[v];
    rescale(r, highest);
    total[r] += fold(partial, [](Vec a, Vec b) { return a + b; });
  }

  void rescale(std::int64_t r, float highest) const {
    if (highest == maximum[r]) return;  // the factor would be 1 exactly
    const float factor = exp(broadcast(maximum[r] - highest))[0];
    maximum[r] = highest;
    total[r] *= factor;
    float* row = sums + r * padded;
    for (std::int64_t d = 0; d < padded; d += kLanes) store(row + d, load(row + d) * factor);
  }

  void add(const float* values, std::int64_t count) const {
    for (std::int64_t d = 0; d < padded; d += kPanel) {
      for (std::int64_t t = 0; t < tiles.count; ++t) {
        tile_rows<kChunk>(tiles.size(t), weights + tiles.first(t) * kChunk, values + d * kChunk, {values, 0}, count,
                          sums + tiles.first(t) * padded + d, padded);
      }
    }
  }
};

template <class Stored>
struct Attend {
  const Attention& job;
  std::int64_t group = job.query.heads / job.kv_heads;
  std::int64_t queries = most(1, kQueries / group);  // of one sequence, in one item
  std::int64_t rows_max = queries * group;
  std::int64_t size = job.query.size, padded = ceil_div(size, kPanel) * kPanel;

  std::int64_t query_begin(std::int64_t s) const { return job.query_start ? job.query_start[s] : s; }
  std::int64_t query_end(std::int64_t s) const { return job.query_start ? job.query_start[s + 1] : s + 1; }
  std::int64_t pieces(std::int64_t s) const { return ceil_div(query_end(s) - query_begin(s), queries); }

  // Queries [first, last) of sequence s, with one kv head.
  void item(std::int64_t s, std::int64_t kv_head, std::int64_t first, std::int64_t last) const {
    const std::int64_t position = job.context_len[s] - query_end(s) + first;  // of the first query
    const auto from = [&](std::int64_t q) { return job.window ? most(0, position + q + 1 - job.window) : 0; };
    const std::int64_t begin = from(0), end = position + last - first;

    float* memory = static_cast<float*>(scratch(scratch_bytes()));
    const auto take = [&memory](std::int64_t floats) { return memory += floats, memory - floats; };
    const Gathered<Stored> gathered{job, size, take(kChunk * size), take(kChunk * padded),
                                    job.block_tables + s * job.block_stride, kv_head, begin, end};
    const Rows rows{Tiles((last - first) * group), size, padded, take(rows_max * size), take(rows_max * kChunk),
                    take(rows_max * padded), take(rows_max), take(rows_max)};
    typename Gathered<Stored>::Places places[2];

    load_queries(rows, kv_head, first);
    rows.start();
    std::int64_t chunk = begin / kChunk * kChunk;
    gathered.locate(chunk, places[0]);
    for (int turn = 0; chunk < end; chunk += kChunk, turn ^= 1) {
      const std::int64_t count = least(kChunk, end - chunk);
      gathered.locate(chunk + kChunk, places[turn ^ 1]);
      gathered.load_keys(places[turn]);
      gathered.load_values(places[turn]);
      rows.score(gathered.keys, count);
      for (std::int64_t r = 0; r < rows.tiles.rows; ++r) {
        gathered.ask(places[turn ^ 1], r, rows.tiles.rows);
        rows.soften(r, most(0, from(r / group) - chunk), position + r / group + 1 - chunk);
      }
      rows.add(gathered.values, count);
    }
    write(rows, kv_head, first);
  }

  std::int64_t scratch_bytes() const {
    return 4 * (kChunk * (size + padded) + rows_max * (size + kChunk + padded + 2));
  }

  void load_queries(const Rows& rows, std::int64_t kv_head, std::int64_t first) const {
    for (std::int64_t t = 0; t < rows.tiles.count; ++t) {
      const std::int64_t begin = rows.tiles.first(t), count = rows.tiles.size(t);
      for (std::int64_t r = begin; r < begin + count; ++r) {
        const float* query = head(job.query, first + r / group, kv_head * group + r % group);
        for (std::int64_t d = 0; d < size; ++d) rows.query[begin * size + d * count + r - begin] = query[d] * job.scale;
      }
    }
  }

  void write(const Rows& rows, std::int64_t kv_head, std::int64_t first) const {
    for (std::int64_t r = 0; r < rows.tiles.rows; ++r) {
      float* to = head(job.out, first + r / group, kv_head * group + r % group);
      const float inverse = rows.total[r] > 0 ? 1 / rows.total[r] : rows.total[r];
      for_lanes(size, [&](std::int64_t d, auto load, auto store) {
        store(to + d, load(rows.sums + r * padded + d) * inverse);
      });
    }
  }

  static float* head(const Heads& heads, std::int64_t token, std::int64_t index) {
    return heads.data + token * heads.token_stride + index * heads.head_stride;
  }

  // Items are numbered sequence by sequence; the pool takes the last first, which in a prefill see the most keys.
  void run() const {
    std::int64_t items = 0, keys = 0;
    for (std::int64_t s = 0; s < job.sequences; ++s) {
      items += pieces(s) * job.kv_heads;
      keys += pieces(s) * job.kv_heads * job.context_len[s];
    }
    constexpr std::int64_t kKeysWorth = 256;  // gathered by one chunk: about 10 us
    const std::int64_t chunks = most(1, least(least(items, 16 * threads()), keys / kKeysWorth));
    parallel(chunks, [&](std::int64_t chunk) { range(chunk * items / chunks, (chunk + 1) * items / chunks); });
  }

  void range(std::int64_t item_begin, std::int64_t item_end) const {
    std::int64_t s = 0, before = 0;  // items of the sequences before s
    for (std::int64_t i = item_begin; i < item_end; ++i) {
      while (i >= before + pieces(s) * job.kv_heads) before += pieces(s++) * job.kv_heads;
      const std::int64_t first = query_begin(s) + (i - before) / job.kv_heads * queries;
      item(s, (i - before) % job.kv_heads, first, least(first + queries, query_end(s)));
    }
  }
};

void attention(const Attention& job) {
  job.key_cache.element == Element::kFloat32 ? Attend<float>{job}.run() : Attend<Bf16>{job}.run();
}

}  // namespace
}  // namespace aruntime::cpu
