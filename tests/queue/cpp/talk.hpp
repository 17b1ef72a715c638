// What the two ends of a test channel say: submit or cancel number n, output number n, result number n, each
// recognisable to its last byte.
#pragma once

#include <sys/eventfd.h>

#include <cstring>
#include <vector>

#include "expect.hpp"
#include "queue/ends.hpp"

namespace talk {

using namespace aruntime;

inline std::uint32_t mix(std::uint32_t n) {
  n = (n ^ (n >> 16)) * 0x45d9f3bu;
  return n ^ (n >> 16);
}

inline bool is_cancel(std::uint32_t n) { return n % 4 == 3; }

inline std::vector<std::int32_t> prompt_of(std::uint32_t n) {
  std::vector<std::int32_t> prompt(1 + mix(n) % 150);  // 6 to 15 cells with the head
  for (std::uint32_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(mix(n * 1000 + i));
  return prompt;
}

// Of every second message; 0 to 3 cells.
inline std::vector<std::byte> payload_of(std::uint32_t n) {
  std::vector<std::byte> payload(n % 2 == 0 ? mix(n + 1) % 150 : 0);
  for (std::uint32_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(mix(n * 2000 + i));
  return payload;
}

inline SubmitHead head_of(std::uint32_t n) {
  SubmitHead head;
  head.slot = n;
  head.generation = mix(n);
  head.deadline_s = n;
  head.stop_tokens = n % 17;
  for (std::int32_t& token : head.stop_token_ids) token = static_cast<std::int32_t>(n);
  std::memset(head.request_id, static_cast<int>('a' + n % 26), sizeof head.request_id);
  return head;
}

inline bool try_say(FrontEndEnd& end, std::uint32_t n) {
  if (is_cancel(n)) return end.try_tell(MessageKind::kCancel, n, mix(n));
  SubmitHead head = head_of(n);
  const auto prompt = prompt_of(n);
  const auto payload = payload_of(n);
  head.prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  head.payload_bytes = static_cast<std::uint32_t>(payload.size());
  return end.try_submit(head, prompt.data(), payload.data());
}

inline void expect_said(Received received, const Message& message, std::uint32_t n) {
  if (is_cancel(n)) {
    EXPECT(received == Received::kCancel);
    EXPECT(message.about.slot == n && message.about.generation == mix(n));
    return;
  }
  EXPECT(received == Received::kSubmit);
  SubmitHead head = head_of(n);
  head.prompt_tokens = static_cast<std::uint32_t>(prompt_of(n).size());
  head.cells = cells_of(head.prompt_tokens, static_cast<std::uint32_t>(payload_of(n).size()));
  EXPECT(message.prompt == prompt_of(n));
  EXPECT(message.payload == payload_of(n));
  EXPECT(message.head.slot == n && message.head.generation == mix(n) && message.head.deadline_s == n);
  EXPECT(message.head.cells == head.cells && message.head.stop_tokens == n % 17);
  EXPECT(std::memcmp(message.head.stop_token_ids, head.stop_token_ids, sizeof head.stop_token_ids) == 0);
  EXPECT(std::memcmp(message.head.request_id, head.request_id, sizeof head.request_id) == 0);
}

inline OutputRecord output_of(std::uint32_t n) {
  OutputRecord record;
  record.slot = n;
  record.generation = mix(n);
  record.token = static_cast<std::int32_t>(n);
  record.index = n;
  record.finish = static_cast<FinishReason>(n % 9);
  record.cached_tokens = ~n;
  record.logprob = static_cast<float>(n);
  return record;
}

inline void expect_answered(const OutputRecord& record, std::uint32_t n) {
  const OutputRecord want = output_of(n);
  EXPECT(std::memcmp(&record, &want, sizeof want) == 0);
}

inline std::vector<std::byte> answer_of(std::uint32_t n) { return payload_of(2 * n); }

inline bool try_answer(EngineEnd& end, std::uint32_t n) {
  const auto answer = answer_of(n);
  return end.try_result(n, mix(n), answer.data(), static_cast<std::uint32_t>(answer.size()));
}

inline void expect_result(const Result& result, std::uint32_t n) {
  EXPECT(result.head.slot == n && result.head.generation == mix(n));
  EXPECT(result.bytes == answer_of(n));
}

// A channel's file and both bells, of one epoch.
struct Line {
  std::uint64_t epoch;
  int file;
  int engine_bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int front_end_bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  Line(std::uint64_t number, std::uint32_t submit_cells, std::uint32_t output_records, std::uint32_t result_cells)
      : epoch(number), file(create_channel(number, submit_cells, output_records, result_cells)) {}
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  ~Line() {
    for (const int fd : {file, engine_bell, front_end_bell}) ::close(fd);
  }
};

}  // namespace talk
