// The one inner loop of every matrix product: a tile of rows times a panel of kPanel columns, kept in registers.
//
//   out[r, 0..31] += sum over k, in order, of x[r, k] * panel[k, 0..31]      one fused multiply-add a lane and k
//
// A lane's sum is one chain in the order of k, so its bits depend on nothing but its own row and column: not on the
// number of rows, the tile, the thread or the width of the vectors. Stopping and going on (K in pieces) is free.
#pragma once

#include "cpu/ops.hpp"
#include "cpu/simd.hpp"

namespace aruntime::cpu {
namespace {

// Registers: rows * kVectors sums + kVectors weights + 1 broadcast; AVX-512 has 32, AVX2 16.
constexpr int kTileRows = kLanes == 16 ? 12 : 6;
constexpr int kHalf = kPanel / 2;
// A panel's piece in the first-level cache, when several tiles of rows or several passes use it.
constexpr std::int64_t kPiece = 256;

// Pair p of the vectors of a panel's row: columns from p * kLanes on of its low and of its high half.
inline void load_pair(const float* row, int pair, Vec& low, Vec& high) {
  low = load(row + pair * kLanes);
  high = load(row + kHalf + pair * kLanes);
}
inline void load_pair(const Bf16* row, int pair, Vec& low, Vec& high) {
  const Words words = load_as<Words>(row + 2 * pair * kLanes);
  low = (Vec)(words << 16);
  high = (Vec)(words & 0xffff0000u);
}

// Weights to ask memory for while a tile is computed: for each k a row of a panel, or a part of one when several tiles
// share the asking.
struct Ahead {
  const void* at;
  std::int64_t step;  // bytes for each k; 0 with any address at hand asks for nothing new

  Ahead after(std::int64_t inputs) const { return {static_cast<const char*>(at) + inputs * step, step}; }
};

// kPairs pairs of vectors of the panel at once, from pair `first`. x[r, k] lies at x[r * kRowStep + k * kInputStep].
template <int kRows, int kPairs, int kRowStep, int kInputStep, class Weight>
inline void tile_pairs(const float* x, const Weight* panel, Ahead ahead, std::int64_t inputs, int first, float* out,
                       std::int64_t stride) {
  Vec low[kRows][kPairs], high[kRows][kPairs];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPairs; ++p) {
      low[r][p] = load(out + r * stride + (first + p) * kLanes);
      high[r][p] = load(out + r * stride + kHalf + (first + p) * kLanes);
    }
  }
  const char* from = static_cast<const char*>(ahead.at);
  for (std::int64_t k = 0; k < inputs; ++k) {
    for (int i = 0; i < kPanel * static_cast<int>(sizeof(Weight)); i += 64) __builtin_prefetch(from + i, 0, 2);
    Vec w_low[kPairs], w_high[kPairs];
    for (int p = 0; p < kPairs; ++p) load_pair(panel, first + p, w_low[p], w_high[p]);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec value = broadcast(x[r * kRowStep]);
      for (int p = 0; p < kPairs; ++p) {
        low[r][p] += value * w_low[p];
        high[r][p] += value * w_high[p];
      }
    }
    panel += kPanel;
    from += ahead.step;
    x += kInputStep;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPairs; ++p) {
      store(out + r * stride + (first + p) * kLanes, low[r][p]);
      store(out + r * stride + kHalf + (first + p) * kLanes, high[r][p]);
    }
  }
}

// The whole panel: at once where its sums fit the registers, else pair by pair over pieces of K.
template <int kRows, int kRowStep, int kInputStep, class Weight>
inline void tile(const float* x, const Weight* panel, Ahead ahead, std::int64_t inputs, float* out,
                 std::int64_t stride) {
  constexpr int kPairs = kHalf / kLanes;
  if constexpr (kPairs == 1 || kRows <= 3) {
    tile_pairs<kRows, kPairs, kRowStep, kInputStep>(x, panel, ahead, inputs, 0, out, stride);
  } else {
    for (std::int64_t k = 0; k < inputs; k += kPiece) {
      for (int pair = 0; pair < kPairs; ++pair) {
        tile_pairs<kRows, 1, kRowStep, kInputStep>(x + k * kInputStep, panel + k * kPanel,
                                                   ahead.after(k), least(kPiece, inputs - k), pair, out, stride);
      }
    }
  }
}

// tile() for a number of rows known at run time, 1 <= rows <= kTileRows. kRowStep 0: x is interleaved, x[k * rows + r].
template <int kRowStep, class Weight, int kRows = kTileRows>
inline void tile_rows(int rows, const float* x, const Weight* panel, Ahead ahead, std::int64_t inputs, float* out,
                      std::int64_t stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return tile_rows<kRowStep, Weight, kRows - 1>(rows, x, panel, ahead, inputs, out, stride);
  }
  tile<kRows, kRowStep ? kRowStep : 1, kRowStep ? 1 : kRows>(x, panel, ahead, inputs, out, stride);
}

// Rows cut into tiles as even as can be: 13 rows are 7 + 6, not 12 + 1.
struct Tiles {
  explicit Tiles(std::int64_t rows) : rows(rows), count(ceil_div(rows, kTileRows)) {}
  std::int64_t first(std::int64_t tile) const { return tile * rows / count; }
  int size(std::int64_t tile) const { return static_cast<int>(first(tile + 1) - first(tile)); }
  std::int64_t rows, count;
};

}  // namespace
}  // namespace aruntime::cpu
