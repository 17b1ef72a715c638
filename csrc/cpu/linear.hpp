// Linear layers: pack a weight once, then multiply rows of activations by it.
//
//   few rows    (one tile)  each panel is read once from memory while the sums stay in registers: bandwidth bound
//   many rows               a piece of a panel stays in the first-level cache while all tiles of rows pass over it
//
// Activations of several rows are first interleaved tile by tile (x[k * rows + r]), so the inner loop reads both
// streams straight ahead; row-major rows a power of two apart would fall on the same cache sets.
#pragma once

#include "cpu/pool.hpp"
#include "cpu/tile.hpp"

namespace aruntime::cpu {
namespace {

constexpr std::int64_t kBlockRows = 20 * kTileRows;  // of one chunk: kPiece inputs of them stay in the second cache
constexpr std::int64_t kAhead = 32;                   // inputs between use and prefetch when memory is the limit
constexpr std::int64_t kChunkBytes = 128 << 10;       // of weights: a chunk worth waking a thread for
constexpr std::int64_t kChunkProducts = 1 << 20;      // multiply-adds: the same for many rows

inline void pack_row(const float* weight, std::int64_t stride, std::int64_t outputs, float* row) {
  for (std::int64_t i = 0; i < outputs; ++i) row[i] = weight[i * stride];
}
inline void pack_row(const Bf16* weight, std::int64_t stride, std::int64_t outputs, Bf16* row) {
  for (std::int64_t i = 0; i < outputs; ++i) row[2 * (i % kHalf) + i / kHalf] = weight[i * stride];
}

template <class Weight>
void pack_as(const Weight* weight, std::int64_t stride, Packed& packed) {
  const std::int64_t inputs = packed.inputs;
  parallel(ceil_div(packed.outputs, kPanel), [&](std::int64_t p) {
    Weight* panel = static_cast<Weight*>(packed.data) + p * kPanel * inputs;
    const std::int64_t outputs = least(kPanel, packed.outputs - p * kPanel);
    for (std::int64_t k = 0; k < inputs; ++k) {
      pack_row(weight + p * kPanel * stride + k, stride, outputs, panel + k * kPanel);
    }
  });
}

void pack(const void* weight, std::int64_t stride, Packed& packed) {
  packed.element == Element::kFloat32 ? pack_as(static_cast<const float*>(weight), stride, packed)
                                      : pack_as(static_cast<const Bf16*>(weight), stride, packed);
}

void interleave(const Matrix& x, std::int64_t first, int rows, float* to) {
  for (std::int64_t k = 0; k < x.columns; ++k) {
    for (int r = 0; r < rows; ++r) to[k * rows + r] = x.data[(first + r) * x.stride + k];
  }
}

// Returns x with each tile's rows interleaved: tile t begins at first(t) * columns.
const float* interleave(const Matrix& x, const Tiles& tiles) {
  if (x.rows == 1) return x.data;
  float* interleaved = static_cast<float*>(scratch(x.rows * x.columns * 4));
  const std::int64_t chunks = least(tiles.count, ceil_div(x.rows * x.columns, 1 << 16));
  parallel(chunks, [&](std::int64_t chunk) {
    for (std::int64_t t = chunk * tiles.count / chunks; t < (chunk + 1) * tiles.count / chunks; ++t) {
      interleave(x, tiles.first(t), tiles.size(t), interleaved + tiles.first(t) * x.columns);
    }
  });
  return interleaved;
}

template <class Weight>
struct Product {
  const Packed& weight;
  const Matrix& out;
  const float* x;  // interleaved
  Tiles tiles;

  // Tiles [tile, tile_end) times panel p, inputs [k, k + count). One tile asks for the weights a little ahead of it;
  // several share the asking for the same inputs of the next panel, which come next.
  void piece(std::int64_t p, std::int64_t tile, std::int64_t tile_end, std::int64_t k, std::int64_t count) const {
    const auto* panel = static_cast<const Weight*>(weight.data) + (p * weight.inputs + k) * kPanel;
    const std::int64_t columns = least(kPanel, weight.outputs - p * kPanel);
    const std::int64_t several = tile_end - tile, row_bytes = kPanel * sizeof(Weight);
    Ahead ahead = {panel + (several == 1 ? kAhead : weight.inputs) * kPanel, row_bytes / several};
    for (; tile < tile_end; ++tile, ahead = ahead.after(count)) {
      const int rows = tiles.size(tile);
      float* to = out.data + tiles.first(tile) * out.stride + p * kPanel;
      const float* from = x + tiles.first(tile) * weight.inputs + k * rows;
      if (columns == kPanel) {
        if (k == 0) start(p, rows, kPanel, to, out.stride);
        tile_rows<0>(rows, from, panel, ahead, count, to, out.stride);
      } else {
        edge(p, rows, columns, from, panel, ahead, k, count, to);
      }
    }
  }

  // Every sum begins with the bias.
  void start(std::int64_t p, int rows, std::int64_t columns, float* to, std::int64_t stride) const {
    for (int r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < columns; ++i) to[r * stride + i] = weight.bias[p * kPanel + i];
    }
  }

  // The last panel of a weight whose outputs are no multiple of kPanel: by way of a whole tile beside `out`.
  void edge(std::int64_t p, int rows, std::int64_t columns, const float* from, const Weight* panel, Ahead ahead,
            std::int64_t k, std::int64_t count, float* to) const {
    float whole[kTileRows * kPanel] = {};
    if (k == 0) start(p, rows, columns, to, out.stride);
    for (int r = 0; r < rows; ++r) __builtin_memcpy(whole + r * kPanel, to + r * out.stride, columns * 4);
    tile_rows<0>(rows, from, panel, ahead, count, whole, kPanel);
    for (int r = 0; r < rows; ++r) __builtin_memcpy(to + r * out.stride, whole + r * kPanel, columns * 4);
  }

  // Panels [panel, panel_end) for tiles [tile, tile_end).
  void block(std::int64_t panel, std::int64_t panel_end, std::int64_t tile, std::int64_t tile_end) const {
    const std::int64_t step = tile_end - tile == 1 ? weight.inputs : kPiece;
    for (std::int64_t k = 0; k < weight.inputs; k += step) {
      for (std::int64_t p = panel; p < panel_end; ++p) piece(p, tile, tile_end, k, least(step, weight.inputs - k));
    }
  }

  void run() const {
    const std::int64_t panels = ceil_div(weight.outputs, kPanel), blocks = ceil_div(tiles.rows, kBlockRows);
    const std::int64_t products = tiles.rows * weight.outputs * weight.inputs;
    const std::int64_t worth = most(weight.bytes / kChunkBytes, products / kChunkProducts);
    const std::int64_t groups = most(1, least(least(panels, 8 * threads()), worth / blocks));
    parallel(blocks * groups, [&](std::int64_t chunk) {
      const std::int64_t block_index = chunk / groups, group = chunk % groups;
      block(group * panels / groups, (group + 1) * panels / groups, block_index * tiles.count / blocks,
            (block_index + 1) * tiles.count / blocks);
    });
  }
};

void linear(const Matrix& x, const Packed& weight, const Matrix& out) {
  if (x.rows == 0) return;
  const Tiles tiles(x.rows);
  const float* interleaved = interleave(x, tiles);
  weight.element == Element::kFloat32 ? Product<float>{weight, out, interleaved, tiles}.run()
                                      : Product<Bf16>{weight, out, interleaved, tiles}.run();
}

}  // namespace
}  // namespace aruntime::cpu
