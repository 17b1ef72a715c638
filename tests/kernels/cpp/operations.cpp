// Every operation on odd sizes in buffers of exactly the size that it was told, so that AddressSanitizer sees any step
// beyond them. Argument: the instruction set.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/ops.hpp"
#include "cpu/pool.hpp"

using namespace aruntime::cpu;
using Floats = std::vector<float>;
using Integers = std::vector<std::int32_t>;

Matrix matrix(Floats& data, std::int64_t rows, std::int64_t columns) { return {data.data(), rows, columns, columns}; }
Heads heads(Floats& data, std::int64_t tokens, std::int64_t count, std::int64_t size) {
  return {data.data(), tokens, count, size, count * size, size};
}
std::size_t bytes(Element element, std::int64_t count) { return count * (element == Element::kFloat32 ? 4 : 2); }

void linears(Element element, std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  std::vector<char> weight(bytes(element, outputs * inputs));
  Packed packed;
  packed.element = element, packed.outputs = outputs, packed.inputs = inputs;
  if (!map_packed(packed)) std::exit(1);
  operations().pack(weight.data(), inputs, packed);
  Floats x(rows * inputs, 1), out(rows * outputs);
  operations().linear(matrix(x, rows, inputs), packed, matrix(out, rows, outputs));
  unmap_packed(packed);
}

void rows(std::int64_t count, std::int64_t size) {
  Floats x(count * size, 1), out(count * size), weight(size, 1), gate_up(2 * count * size, 1), table(3 * size);
  operations().rms_norm(heads(x, count, 1, size), weight.data(), heads(out, count, 1, size), 1e-5f, nullptr);
  operations().silu_mul(matrix(gate_up, count, 2 * size), matrix(out, count, size));
  const Integers ids(count, 2);
  operations().embed(ids.data(), {table.data(), Element::kFloat32, 3, size}, matrix(out, count, size));
  Floats turned(count * 2 * size, 1), cos_sin(3 * 2 * size);
  const Heads query = heads(turned, count, 1, 2 * size);
  operations().rotary(query, query, ids.data(), cos_sin.data());
}

void attentions(Element element, std::int64_t heads_count, std::int64_t kv_heads, std::int64_t size, std::int64_t window) {
  constexpr std::int64_t kBlock = 5, kContext = 133, kQueries = 40, kBlocks = (kContext + kBlock - 1) / kBlock;
  std::vector<char> keys(bytes(element, kBlocks * kBlock * kv_heads * size)), values(keys.size());
  const Table key_cache{keys.data(), element, kBlocks * kBlock, kv_heads * size};
  const Table value_cache{values.data(), element, kBlocks * kBlock, kv_heads * size};
  Integers slots(kQueries), blocks(kBlocks);
  for (std::int64_t i = 0; i < kQueries; ++i) slots[i] = static_cast<std::int32_t>(kBlocks * kBlock - 1 - i);
  for (std::int64_t i = 0; i < kBlocks; ++i) blocks[i] = static_cast<std::int32_t>(kBlocks - 1 - i);
  Floats fresh(kQueries * kv_heads * size, 1), query(kQueries * heads_count * size, 1), out(query.size());
  operations().store_kv(heads(fresh, kQueries, kv_heads, size), key_cache, slots.data());
  const Integers query_start{0, kQueries}, context_len{kContext};
  const Attention job{heads(query, kQueries, heads_count, size), heads(out, kQueries, heads_count, size), key_cache,
                      value_cache, blocks.data(), query_start.data(), context_len.data(), 1, kBlocks, kBlocks, kv_heads,
                      kBlock, window, 0.125f};
  if (check(job).fault != Fault::kNone) std::exit(1);
  operations().attention(job);
}

void samples(std::int64_t rows_count, std::int64_t vocab) {
  Floats logits(rows_count * vocab), logprob(rows_count), temperature(rows_count, 0.7f), top_p(rows_count, 0.5f);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 17);
  const Floats min_p(rows_count, 0.01f);
  Integers out(rows_count);
  const Integers top_k(rows_count, 9), position(rows_count, 3);
  const std::vector<std::int64_t> seed(rows_count, -1);
  operations().sample({matrix(logits, rows_count, vocab), out.data(), logprob.data(), temperature.data(), top_p.data(),
                       min_p.data(), top_k.data(), position.data(), seed.data()});
}

int main(int, char** arguments) {
  if (!select(arguments[1])) return std::puts("missing"), 77;
  set_threads(2);
  for (const Element element : {Element::kFloat32, Element::kBfloat16}) {
    for (const std::int64_t count : {1, 2, 5, 13, 40}) {
      linears(element, count, 33, 7), linears(element, count, 64, 300), linears(element, count, 1, 1);
    }
    for (const std::int64_t window : {0, 20}) {
      attentions(element, 7, 1, 63, window), attentions(element, 6, 2, 32, window), attentions(element, 2, 2, 5, window);
    }
  }
  for (const std::int64_t size : {1, 15, 16, 63, 100}) rows(9, size), samples(3, size);
}
