#include "cpu/ops.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

namespace aruntime::cpu {

extern const Operations kAvx512, kAvx2, kPortable;

namespace {

struct Choice {
  const Operations* operations;
  bool (*runs_here)();
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// Best first.
const Choice kChoices[] = {
#if defined(__x86_64__)
    {&kAvx512, has_avx512},
    {&kAvx2, has_avx2},
#endif
    {&kPortable, [] { return true; }},
};

const Operations* best() {
  for (const Choice& choice : kChoices) {
    if (choice.runs_here()) return choice.operations;
  }
  return nullptr;
}

std::atomic<const Operations*> chosen{best()};

constexpr std::int64_t kPage = 4096;
}  // namespace

const Operations& operations() { return *chosen.load(std::memory_order_relaxed); }

bool select(const char* name) {
  for (const Choice& choice : kChoices) {
    if (std::strcmp(choice.operations->name, name) != 0) continue;
    if (choice.runs_here()) chosen = choice.operations;
    return choice.runs_here();
  }
  return false;
}

std::int64_t first_outside(const std::int32_t* values, std::int64_t count, std::int64_t low, std::int64_t high) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (values[i] < low || values[i] >= high) return i;
  }
  return -1;
}

FaultAt check(const Attention& job) {
  const std::int64_t block_count = job.key_cache.rows / job.block_tokens;
  for (std::int64_t s = 0; s < job.sequences; ++s) {
    const std::int64_t begin = job.query_start ? job.query_start[s] : s;
    const std::int64_t end = job.query_start ? job.query_start[s + 1] : s + 1;
    if (begin < 0 || end < begin || end > job.query.tokens) return {Fault::kQueryStart, s, s + 1};
    const std::int64_t context = job.context_len[s];
    if (context < end - begin || context > job.blocks * job.block_tokens) return {Fault::kContextLen, s, s};
    const std::int64_t used = (context + job.block_tokens - 1) / job.block_tokens;
    const std::int64_t bad = first_outside(job.block_tables + s * job.block_stride, used, 0, block_count);
    if (bad >= 0) return {Fault::kBlockTable, s, bad};
  }
  return {Fault::kNone, 0, 0};
}

bool map_packed(Packed& packed) {
  const std::int64_t outputs = (packed.outputs + kPanel - 1) / kPanel * kPanel;
  const std::int64_t weight = outputs * packed.inputs * (packed.element == Element::kFloat32 ? 4 : 2);
  const std::int64_t bytes = (weight + outputs * 4 + kPage - 1) / kPage * kPage;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return false;
  madvise(data, bytes, MADV_HUGEPAGE);
  packed.data = data;
  packed.bias = reinterpret_cast<float*>(static_cast<char*>(data) + weight);
  packed.bytes = bytes;
  return true;
}

void unmap_packed(Packed& packed) {
  if (packed.data) munmap(packed.data, packed.bytes);
}

void ban(const Matrix& logits, const std::int32_t* row, const std::int32_t* token, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) logits.data[row[i] * logits.stride + token[i]] = -INFINITY;
}

void bias(const Matrix& logits, const std::int32_t* row, const std::int32_t* token, const float* bias,
          std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) logits.data[row[i] * logits.stride + token[i]] += bias[i];
}

void mask(const Matrix& logits, const std::int32_t* row, const std::int32_t* words, std::int64_t count) {
  const std::int64_t stride = (logits.columns + 31) / 32;
  for (std::int64_t i = 0; i < count; ++i) {
    float* to = logits.data + row[i] * logits.stride;
    for (std::int64_t w = 0; w < stride; ++w) {
      const auto word = static_cast<std::uint32_t>(words[i * stride + w]);
      if (word == ~std::uint32_t{0}) continue;
      const std::int64_t end = std::min<std::int64_t>(32, logits.columns - 32 * w);
      for (std::int64_t t = 0; t < end; ++t) to[32 * w + t] = word >> t & 1 ? to[32 * w + t] : -INFINITY;
    }
  }
}

// Semantics of Hugging Face and vLLM: repetition divides a positive logit and multiplies a negative one.
void penalize(const Matrix& logits, const Penalties& penalties) {
  for (std::int64_t i = 0; i < penalties.count; ++i) {
    const std::int32_t row = penalties.row[i], count = penalties.output_count[i];
    float& logit = logits.data[row * logits.stride + penalties.token[i]];
    const float repetition = count > 0 || penalties.in_prompt[i] ? penalties.repetition[row] : 1.0f;
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= penalties.frequency[row] * static_cast<float>(count) + (count > 0 ? penalties.presence[row] : 0.0f);
  }
}

}  // namespace aruntime::cpu
