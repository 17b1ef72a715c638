// The CPU operations as functions over plain views; kernels/aruntime_kernels/cpu.pyx checks shapes and calls them.
//
//   Operations   one table of functions per instruction set (avx2.cpp, avx512.cpp, portable.cpp: the same kernels)
//   operations() the table in use: the best this processor has, or the one that select() named
//
// Strides count elements. Activations are float32; weights and caches are float32 or bfloat16 (`Element`).
#pragma once

#include <cstdint>

namespace aruntime::cpu {

enum class Element : int { kFloat32 = 0, kBfloat16 = 1 };

struct Matrix {
  float* data;
  std::int64_t rows, columns, stride;
};

struct Heads {  // [tokens, heads, size]
  float* data;
  std::int64_t tokens, heads, size, token_stride, head_stride;
};

struct Table {  // [rows, columns], contiguous: an embedding, a weight or a cache seen as [slots, heads * size]
  void* data;
  Element element;
  std::int64_t rows, columns;
};

// A weight [outputs, inputs] in panels of kPanel outputs: panel p holds, for each input k, the kPanel weights
// W[p * kPanel + i, k]. So a matrix product walks memory once, straight ahead, and each output is one lane that adds up
// its products in the order of k. In bf16, word i of a panel's row holds output i (low half) and i + kPanel / 2 (high
// half): one shift or one mask makes a float. Outputs are padded to whole panels with zeros, `bias` too.
inline constexpr std::int64_t kPanel = 32;

struct Packed {
  void* data = nullptr;
  float* bias = nullptr;
  Element element = Element::kFloat32;
  std::int64_t outputs = 0, inputs = 0;
  std::int64_t bytes = 0;  // of data and bias, which follows it
};

struct Attention {
  Heads query, out;
  Table key_cache, value_cache;          // [slots, kv_heads * size]
  const std::int32_t* block_tables;      // [sequences, blocks]
  const std::int32_t* query_start;       // [sequences + 1], or null: one query a sequence
  const std::int32_t* context_len;       // [sequences]
  std::int64_t sequences, blocks, block_stride, kv_heads, block_tokens, window;
  float scale;
};

struct Sampling {  // one of each for each row of logits
  Matrix logits;
  std::int32_t* out;
  float* logprob;  // or null
  const float *temperature, *top_p, *min_p;
  const std::int32_t *top_k, *position;
  const std::int64_t* seed;
};

struct Likeliest {  // `count` rows of logits, and a token of each
  Matrix logits;
  const std::int32_t *row, *token;
  std::int64_t count, top;
  float* logprob;           // [count]
  std::int32_t* top_token;  // [count, top]
  float* top_logprob;       // [count, top]
};

struct Operations {
  const char* name;
  void (*pack)(const void* weight, std::int64_t stride, Packed& packed);
  void (*linear)(const Matrix& x, const Packed& weight, const Matrix& out);
  void (*embed)(const std::int32_t* token_ids, const Table& table, const Matrix& out);
  void (*rms_norm)(const Heads& x, const float* weight, const Heads& out, float eps, const Heads* residual);
  void (*rotary)(const Heads& query, const Heads& key, const std::int32_t* positions, const float* cos_sin);
  void (*silu_mul)(const Matrix& gate_up, const Matrix& out);
  void (*store_kv)(const Heads& source, const Table& cache, const std::int32_t* slot_mapping);
  void (*attention)(const Attention& job);
  void (*sample)(const Sampling& job);
  void (*likeliest)(const Likeliest& job);
};

const Operations& operations();

// Uses the instruction set "avx512", "avx2" or "portable"; false if `name` is none of them or this processor lacks it.
bool select(const char* name);

// Index of the first value outside [low, high), or -1. Ids, slots and lengths are inputs: none is followed unchecked.
std::int64_t first_outside(const std::int32_t* values, std::int64_t count, std::int64_t low, std::int64_t high);

// What is wrong with an attention job's lengths or blocks, and where.
enum class Fault : int { kNone = 0, kQueryStart, kContextLen, kBlockTable };
struct FaultAt {
  Fault fault;
  std::int64_t sequence, index;
};
FaultAt check(const Attention& job);

// Memory for a weight of packed.outputs x packed.inputs: zeros, in huge pages where the system grants them; sets data,
// bias and bytes. False when there is none.
bool map_packed(Packed& packed);
void unmap_packed(Packed& packed);

// logits[row[i], token[i]] = -inf
void ban(const Matrix& logits, const std::int32_t* row, const std::int32_t* token, std::int64_t count);

// logits[row[i], token[i]] += bias[i]
void bias(const Matrix& logits, const std::int32_t* row, const std::int32_t* token, const float* bias, std::int64_t count);

// Bit t % 32 of words[i * ceil(columns / 32) + t / 32] is 0: logits[row[i], t] = -inf
void mask(const Matrix& logits, const std::int32_t* row, const std::int32_t* words, std::int64_t count);

struct Penalties {
  const std::int32_t *row, *token, *output_count, *in_prompt;
  std::int64_t count;
  const float *presence, *frequency, *repetition;  // by row of the logits
};
void penalize(const Matrix& logits, const Penalties& penalties);

}  // namespace aruntime::cpu
