"""The C++ scheduler, for code that drives it without the GIL."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

from aruntime.queue.channel cimport byte
from aruntime.queue.records cimport FinishReason, OutputRecord, SubmitHead


cdef extern from "scheduler/scheduler.hpp" namespace "aruntime" nogil:
    const uint32_t kFrontEndsMax
    const size_t kStepsUnderWay "aruntime::Scheduler::kStepsUnderWay"

    cppclass Limits:
        int32_t sequences_max
        int32_t step_tokens_max
        int32_t waiting_max
        int32_t context_max
        int32_t block_tokens
        int32_t blocks
        int32_t vocab
        double itl_s
        bool whole_prompts
        uint64_t prefix_secret

    cppclass TenantTerms:
        double weight
        double cache_max
        double cache_reserved
        double tokens_per_s_reserved
        uint32_t prefix_group

    cppclass CppStats "aruntime::Stats":
        int64_t waiting
        int64_t waiting_tokens
        int64_t running
        int64_t paused
        int64_t tokens_left
        int64_t undelivered
        int64_t blocks_free
        int64_t blocks_cached
        int64_t blocks_reserved
        int64_t blocks_total
        double waiting_weight
        double oldest_s
        double step_s
        double prefill_tokens_per_s
        double take_up_s
        double drain_s
        int64_t preemptions
        int64_t steps
        int64_t prompt_tokens
        int64_t cached_tokens
        int64_t output_tokens

    cppclass CppTenant "aruntime::Tenant":
        int32_t waiting
        int32_t running
        int32_t paused
        int64_t blocks
        int64_t served

    cppclass CppPlanned "aruntime::Planned":
        CppSequence* sequence
        int32_t sample_row

    cppclass CppSequence "aruntime::Sequence":
        uint32_t front_end
        uint32_t slot
        uint32_t generation
        bool guided

    cppclass Likelihoods:
        const float* logprob
        const int32_t* top_token
        const float* top_logprob
        int32_t top

    cppclass Owner:
        uint32_t front_end
        uint32_t slot
        uint32_t generation

    cppclass CppStepPlan "aruntime::StepPlan":
        int32_t tokens
        int32_t sequences
        int32_t samples
        int32_t decodes
        int32_t table_blocks
        int32_t table_stride
        vector[int32_t] token_ids
        vector[int32_t] positions
        vector[int32_t] slot_mapping
        vector[int32_t] token_source
        vector[int32_t] query_start
        vector[int32_t] context_len
        vector[int32_t] block_tables
        vector[int32_t] sample_index
        vector[float] temperature
        vector[float] top_p
        vector[float] min_p
        vector[float] presence_penalty
        vector[float] frequency_penalty
        vector[float] repetition_penalty
        vector[int32_t] top_k
        vector[uint64_t] seed
        vector[int32_t] position
        vector[int32_t] banned_row
        vector[int32_t] banned_token
        vector[int32_t] bias_row
        vector[int32_t] bias_token
        vector[float] bias
        vector[int32_t] guided_row
        vector[int32_t] guided_token
        vector[int32_t] likely_row
        vector[int32_t] scored_index
        vector[int32_t] scored_token
        int32_t top
        bool rare
        vector[int32_t] penalty_row
        vector[int32_t] penalty_token
        vector[int32_t] penalty_output_count
        vector[int32_t] penalty_in_prompt
        vector[int32_t] pool_sequence
        vector[int32_t] pool_start
        vector[int32_t] pool_end
        vector[int32_t] pool_place
        vector[int32_t] pool_carry
        vector[int32_t] pool_divisor
        vector[CppPlanned] planned

    cppclass CppScheduler "aruntime::Scheduler":
        CppScheduler(const Limits& limits, vector[int32_t] eos) except +
        FinishReason submit(
            uint32_t front_end, const SubmitHead& head, const int32_t* prompt, const byte* payload
        ) except +
        void release(const Owner& owner, bool good) except +
        vector[Owner] take_guided_ended() except +
        bool backlogged(uint32_t front_end) noexcept
        void pause(uint32_t front_end, uint32_t slot, uint32_t generation) except +
        void resume(uint32_t front_end, uint32_t slot, uint32_t generation) except +
        void set_bounds(int32_t waiting_max, double itl_s) except +
        void set_tenant(uint32_t tenant, const TenantTerms& terms) except +
        void cancel(uint32_t front_end, uint32_t slot, uint32_t generation) noexcept
        void drop_front_end(uint32_t front_end) noexcept
        void drain() noexcept
        const CppStepPlan& plan(double now_s) except +
        const CppStepPlan& oldest() noexcept
        const CppStepPlan& step(size_t place) noexcept
        size_t place(const CppStepPlan& plan) noexcept
        const CppTenant& tenant(uint32_t number) noexcept
        uint32_t tenants_end() noexcept
        double lead_tokens(uint32_t tenant) noexcept
        void commit(
            const int32_t* tokens, const float* logprobs, double now_s, const Likelihoods& sampled, const Likelihoods& scored
        ) noexcept
        void fail_step() noexcept
        uint32_t take_outputs(uint32_t front_end, OutputRecord* out, uint32_t max) noexcept
        bool has_outputs(uint32_t front_end) noexcept
        CppStats stats() noexcept
        double next_deadline_s() noexcept
        void check_integrity() except +


cdef class Scheduler:
    cdef shared_ptr[CppScheduler] _impl
    cdef list _plans

    # Never null; lives as long as this object.
    cdef CppScheduler* impl(self) noexcept nogil
