"""The records of csrc/queue/records.hpp, for Cython."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "queue/records.hpp" namespace "aruntime" nogil:
    enum class FinishReason(uint8_t):
        kNone
        kStop
        kLength
        kCancelled
        kDeadline
        kModelError
        kOverloaded
        kInvalid
        kDraining
        kGrammar

    enum class RecordKind(uint8_t):
        kToken
        kAlternative
        kPromptToken

    enum class Pooling(uint8_t):
        kNone
        kMean
        kLast

    enum class MessageKind(uint32_t):
        kSubmit
        kCancel
        kPause
        kResume

    enum class Priority(uint32_t):
        kInteractive
        kStandard
        kBatch

    cppclass SamplingParams:
        float temperature
        float top_p
        float min_p
        float presence_penalty
        float frequency_penalty
        float repetition_penalty
        int32_t top_k
        uint32_t ignore_eos
        uint64_t seed

    cppclass Steering:
        uint8_t top_logprobs
        uint8_t prompt_logprobs
        uint16_t bias_pairs
        uint16_t bad_words
        uint16_t bad_word_tokens
        uint32_t grammar_bytes

    cppclass SubmitHead:
        uint32_t cells
        uint32_t slot
        uint32_t generation
        double arrived_s
        double deadline_s
        uint32_t prompt_tokens
        uint32_t max_tokens
        uint32_t min_tokens
        uint32_t tenant
        Priority priority
        uint32_t attempt
        uint32_t stop_tokens
        uint32_t payload_bytes
        SamplingParams sampling
        Steering steering
        Pooling pooling
        int32_t* stop_token_ids
        char* request_id

    cppclass SlotMessage:
        uint32_t slot
        uint32_t generation

    cppclass ResultHead:
        uint32_t cells
        uint32_t slot
        uint32_t generation
        uint32_t bytes

    cppclass OutputRecord:
        uint32_t slot
        uint32_t generation
        int32_t token
        uint32_t index
        FinishReason finish
        RecordKind kind
        uint32_t cached_tokens
        float logprob

    const uint32_t kStopTokensMax
    const uint32_t kTenantsMax
    const uint32_t kRequestIdBytes
