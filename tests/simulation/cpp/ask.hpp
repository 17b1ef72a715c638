// One request in flight, as its front end knows it, and what is written down of it when it has ended.
#pragma once

#include <cstdint>
#include <vector>

#include "queue/records.hpp"
#include "scenario.hpp"

namespace aruntime::simulation {

// One line of the books. Times are seconds after its arrival; negative: it never came to that.
struct Record {
  double arrived_s = 0;
  float first_s = -1, end_s = -1;        // first token, end
  float gap_max_s = 0, gap_mean_s = 0;   // between two tokens
  float timeout_s = 0, forecast_s = 0;   // infinity: no deadline; 0: nothing was forecast
  std::uint32_t tenant = 0, replica = 0;
  std::uint32_t prompt_tokens = 0, cached_tokens = 0, told = 0, wanted = 0;
  std::uint32_t refusal = 0;  // of the door, see door.hpp; 0: let in
  std::uint32_t finish = 0;   // FinishReason
};
static_assert(sizeof(Record) == 64);

// A place for a request in its front end: the place's number is the slot, and its generation grows with each use.
struct Ask {
  bool live = false;
  std::uint32_t front_end = 0, slot = 0, generation = 0;
  std::uint32_t tenant = 0, replica = 0;
  Priority priority = Priority::kStandard;
  double deadline_s = kNever;
  std::int32_t prompt_tokens = 0, max_tokens = 0;
  std::int32_t wanted = 0;  // output tokens after which the model ends it
  std::int32_t turns_left = 0;
  std::uint64_t session = 0;  // of its conversation

  // The prompt, then what the model says after it: a function of what stands before, so a token that is lost with its
  // step is sampled again the same.
  std::vector<std::int32_t> tokens;
  std::vector<std::uint64_t> hashes;  // of each prefix of them; only where the cache is shadowed

  std::int32_t charged = 0;  // tokens that were computed once
  std::int32_t told = 0;
  bool invalid = false;    // asks what nobody can serve
  bool paused = false;     // as the front end said; `held` once the scheduler knows
  bool held = false;
  bool cancelled = false;  // the client left; `expired`: at its deadline
  bool expired = false;
  bool broken = false;     // its model failed
  double last_s = 0;  // when it was last told a token
  double read_s = 0;  // when its reader will have read all that it was told
  double gaps_s = 0;
  Record record;
};

}  // namespace aruntime::simulation
