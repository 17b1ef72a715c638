"""The C++ operations of csrc/cpu/ops.hpp."""

from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool


cdef extern from "cpu/ops.hpp" namespace "aruntime::cpu" nogil:
    cdef enum class Element(int):
        kFloat32
        kBfloat16

    cdef struct Matrix:
        float* data
        int64_t rows, columns, stride

    cdef struct Heads:
        float* data
        int64_t tokens, heads, size, token_stride, head_stride

    cdef struct Table:
        void* data
        Element element
        int64_t rows, columns

    cdef struct Packed:
        void* data
        float* bias
        Element element
        int64_t outputs, inputs, bytes

    cdef struct Attention:
        Heads query, out
        Table key_cache, value_cache
        const int32_t* block_tables
        const int32_t* query_start
        const int32_t* context_len
        int64_t sequences, blocks, block_stride, kv_heads, block_tokens, window
        float scale

    cdef struct Sampling:
        Matrix logits
        int32_t* out
        float* logprob
        const float* temperature
        const float* top_p
        const float* min_p
        const int32_t* top_k
        const int32_t* position
        const int64_t* seed

    cdef struct Likeliest:
        Matrix logits
        const int32_t* row
        const int32_t* token
        int64_t count, top
        float* logprob
        int32_t* top_token
        float* top_logprob

    cdef struct Penalties:
        const int32_t* row
        const int32_t* token
        const int32_t* output_count
        const int32_t* in_prompt
        int64_t count
        const float* presence
        const float* frequency
        const float* repetition

    cdef enum class Fault(int):
        kNone
        kQueryStart
        kContextLen
        kBlockTable

    cdef struct FaultAt:
        Fault fault
        int64_t sequence, index

    cdef struct Operations:
        const char* name
        void (*pack)(const void* weight, int64_t stride, Packed& packed) except + nogil
        void (*linear)(const Matrix& x, const Packed& weight, const Matrix& out) except + nogil
        void (*embed)(const int32_t* token_ids, const Table& table, const Matrix& out) except + nogil
        void (*rms_norm)(
            const Heads& x, const float* weight, const Heads& out, float eps, const Heads* residual) except + nogil
        void (*rotary)(
            const Heads& query, const Heads& key, const int32_t* positions, const float* cos_sin) except + nogil
        void (*silu_mul)(const Matrix& gate_up, const Matrix& out) except + nogil
        void (*store_kv)(const Heads& source, const Table& cache, const int32_t* slot_mapping) except + nogil
        void (*attention)(const Attention& job) except + nogil
        void (*sample)(const Sampling& job) except + nogil
        void (*likeliest)(const Likeliest& job) except + nogil

    const Operations& operations() noexcept
    bool c_select "aruntime::cpu::select"(const char* name) noexcept
    int64_t first_outside(const int32_t* values, int64_t count, int64_t low, int64_t high) noexcept
    FaultAt c_check "aruntime::cpu::check"(const Attention& job) noexcept
    bool map_packed(Packed& packed) noexcept
    void unmap_packed(Packed& packed) noexcept
    void c_ban "aruntime::cpu::ban"(
        const Matrix& logits, const int32_t* row, const int32_t* token, int64_t count) noexcept
    void c_bias "aruntime::cpu::bias"(
        const Matrix& logits, const int32_t* row, const int32_t* token, const float* bias, int64_t count) noexcept
    void c_mask "aruntime::cpu::mask"(
        const Matrix& logits, const int32_t* row, const int32_t* words, int64_t count) noexcept
    void c_penalize "aruntime::cpu::penalize"(const Matrix& logits, const Penalties& penalties) noexcept


cdef extern from "cpu/pool.hpp" namespace "aruntime::cpu" nogil:
    void c_set_threads "aruntime::cpu::set_threads"(int threads) except +
    int c_threads "aruntime::cpu::threads"() noexcept


cdef class PackedWeight:
    cdef Packed packed
