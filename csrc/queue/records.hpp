// What crosses between a front end and an engine: fixed records, no pointers, no text but the request id.
//
//   submit ring   front end -> engine   messages of 64-byte cells: a head, a prompt, a payload
//   output ring   engine -> front end   one 32-byte record a token or an end
//   result ring   engine -> front end   messages of 64-byte cells: a head, then a tensor model's answer, or a vector
//
// Shared memory is an input: the reader copies a message out and checks every length, slot and number before use.
#pragma once

#include <array>
#include <cstdint>

namespace aruntime {

inline constexpr std::uint32_t kCellBytes = 64;
inline constexpr std::uint32_t kTokensPerCell = kCellBytes / sizeof(std::int32_t);
inline constexpr std::uint32_t kRequestIdBytes = 128;
inline constexpr std::uint32_t kStopTokensMax = 16;
inline constexpr std::uint32_t kTenantsMax = 256;
inline constexpr std::uint32_t kTopLogprobsMax = 20;       // OpenAI's
inline constexpr std::uint32_t kBiasPairsMax = 300;        // OpenAI's
inline constexpr std::uint32_t kBadWordsMax = 256;
inline constexpr std::uint32_t kBadWordTokensMax = 1024;   // of all bad words together
inline constexpr std::uint32_t kGrammarBytesMax = 1 << 18;

enum class MessageKind : std::uint32_t { kSubmit = 1, kCancel = 2, kPause = 3, kResume = 4 };

enum class Priority : std::uint32_t { kInteractive = 0, kStandard = 1, kBatch = 2 };
inline constexpr std::array<double, 3> kClassWeight = {16.0, 4.0, 1.0};  // by Priority: of one tenant's service

// How a sequence ended. Everything but kNone is an end; a sequence has exactly one.
enum class FinishReason : std::uint8_t {
  kNone = 0,
  kStop = 1,       // an end-of-sequence or stop token; the token itself is not part of the text
  kLength = 2,     // max_tokens or the context's end
  kCancelled = 3,  // the front end asked
  kDeadline = 4,   // its deadline passed
  kModelError = 5, // the model broke in a step of this sequence
  kOverloaded = 6, // the engine's own bounds refused it (queue full); nothing was computed
  kInvalid = 7,    // the submitted record was malformed (a bug or a hostile neighbour)
  kDraining = 8,   // the engine is shutting down and could not finish it
  kGrammar = 9,    // its grammar cannot be compiled, or cannot be followed any further
};

// What is wanted of a prompt instead of an answer: one vector, of the last layer's states.
enum class Pooling : std::uint8_t {
  kNone = 0,
  kMean = 1,  // of all its tokens
  kLast = 2,  // that of its last token
};

// temperature 0 is greedy. top_k 0, top_p 1, min_p 0, penalties 0, repetition_penalty 1 are off.
struct SamplingParams {
  float temperature = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::int32_t top_k = 0;
  std::uint32_t ignore_eos = 0;
  std::uint64_t seed = 0;
};
static_assert(sizeof(SamplingParams) == 40);

// What else a decoder is asked, and how much of it lies in the payload: `bias_pairs` times (int32 token, float32 bias),
// then `bad_words` times (int32 length, so many int32 tokens; `bad_word_tokens` in all), then the grammar's text, UTF-8.
struct Steering {
  std::uint8_t top_logprobs = 0;    // alternatives told with every token
  std::uint8_t prompt_logprobs = 0; // 1: the prompt's tokens are told with their logprobs first
  std::uint16_t bias_pairs = 0;
  std::uint16_t bad_words = 0;
  std::uint16_t bad_word_tokens = 0;
  std::uint32_t grammar_bytes = 0;
};
static_assert(sizeof(Steering) == 12);

// The head of a submit message: five cells. The prompt follows, ceil(prompt_tokens / 16) cells of int32 token ids, then
// ceil(payload_bytes / 64) cells: for a decoder what `Steering` says, for a tensor model what it computes on, whose rows
// the prompt only counts.
struct alignas(kCellBytes) SubmitHead {
  MessageKind kind = MessageKind::kSubmit;
  std::uint32_t cells = 0;  // of the whole message, head included
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  double arrived_s = 0;   // the host's monotonic clock
  double deadline_s = 0;  // the same clock; infinity for none
  std::uint32_t prompt_tokens = 0;  // at least 1
  std::uint32_t max_tokens = 0;     // at least 1
  std::uint32_t min_tokens = 0;     // end-of-sequence and stop tokens are masked until then
  std::uint32_t tenant = 0;
  Priority priority = Priority::kStandard;
  std::uint32_t attempt = 1;
  std::uint32_t stop_tokens = 0;  // how many of stop_token_ids count
  std::uint32_t payload_bytes = 0;
  alignas(kCellBytes) SamplingParams sampling;
  Steering steering;
  Pooling pooling = Pooling::kNone;  // else max_tokens is 1, and no token is sampled
  alignas(kCellBytes) std::int32_t stop_token_ids[kStopTokensMax] = {};
  char request_id[kRequestIdBytes] = {};  // padded with zeros
};
inline constexpr std::uint32_t kSubmitHeadCells = sizeof(SubmitHead) / kCellBytes;
static_assert(kSubmitHeadCells == 5);

// One cell: cancel, pause or resume a sequence. A paused one keeps what it has said and computes nothing.
struct alignas(kCellBytes) SlotMessage {
  MessageKind kind = MessageKind::kCancel;
  std::uint32_t cells = 1;
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};
static_assert(sizeof(SlotMessage) == kCellBytes);

// What a record tells of. Alternatives, the likeliest first, stand before the token or prompt token that they are for.
enum class RecordKind : std::uint8_t {
  kToken = 0,        // of the output; or an end
  kAlternative = 1,  // a token that could have stood there, and its logprob
  kPromptToken = 2,  // `index` is its place in the prompt, from 1 on: nothing foretells the first
};

// One token, or the end, or both, of the sequence that the front end knows as (slot, generation).
struct OutputRecord {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  std::int32_t token = -1;    // -1: no token, an end only
  std::uint32_t index = 0;    // the token's place in the output, from 0: a gap is a fault
  FinishReason finish = FinishReason::kNone;
  RecordKind kind = RecordKind::kToken;
  std::uint8_t reserved8[2] = {};
  std::uint32_t cached_tokens = 0;  // of the prompt, not computed again
  float logprob = 0.0f;             // of the token, natural logarithm, before temperature; 0 when not computed; finite but of broken logits
  std::uint32_t reserved = 0;
};
static_assert(sizeof(OutputRecord) == 32);

// The head of a result message: one cell; ceil(bytes / 64) cells follow. It is published before the record that ends its
// sequence.
struct alignas(kCellBytes) ResultHead {
  std::uint32_t cells = 0;  // of the whole message, head included
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  std::uint32_t bytes = 0;
};
static_assert(sizeof(ResultHead) == kCellBytes);

}  // namespace aruntime
