// How long a step takes, learned from the steps that were: what a prompt, a deadline and a promise are measured by.
//
//   seconds  =  c0  +  c1 * tokens prefilled  +  c2 * sequences that decode  +  c3 * tokens of context that they read
//
// Non-negative least squares over the past, forgotten by half every hundred steps, drawn towards nothing by a little
// (ridge): a coefficient of which nothing was seen is 0, so an estimate errs on the side of hope. Time is passed in.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace aruntime {

// What a step was made of.
struct StepWork {
  std::int64_t prefill_tokens = 0;
  std::int64_t decodes = 0;
  std::int64_t context_tokens = 0;  // read by the sequences that decode
};

class Pace {
 public:
  // A step of `work` took `seconds`. One that took far longer than expected (the machine looked away) counts as if it
  // had taken four times what was expected.
  void learn(const StepWork& work, double seconds) noexcept {
    if (!(seconds > 0.0) || !std::isfinite(seconds)) return;
    if (known()) seconds = std::min(seconds, 4.0 * this->seconds(work));
    const Row row = scaled(work);
    for (std::size_t i = 0; i < kSize; ++i) {
      for (std::size_t j = 0; j < kSize; ++j) normal_[i][j] = normal_[i][j] * kKeep + row[i] * row[j];
      target_[i] = target_[i] * kKeep + row[i] * seconds;
    }
    ++steps_;
    solve();
  }

  // Whether enough was seen to say anything.
  bool known() const noexcept { return steps_ >= 16; }

  double seconds(const StepWork& work) const noexcept {
    const Row row = scaled(work);
    double sum = 0.0;
    for (std::size_t i = 0; i < kSize; ++i) sum += coefficient_[i] * row[i];
    return sum;
  }

  // What one more token of a prompt adds to a step.
  double prefill_token_s() const noexcept { return coefficient_[1] / kScale[1]; }

  // Tokens of prompts that fit a step of `work` if it is to take `limit_s`; 0 when the rest takes so long already.
  std::int64_t prefill_room(StepWork work, double limit_s) const noexcept {
    work.prefill_tokens = 0;
    const double left_s = limit_s - seconds(work);
    const double token_s = prefill_token_s();
    return left_s <= 0.0 ? 0 : static_cast<std::int64_t>(std::min(left_s / std::max(token_s, 1e-12), 1e9));
  }

 private:
  static constexpr std::size_t kSize = 4;
  static constexpr double kKeep = 0.9931;  // 0.5 to the power of 1/100
  static constexpr double kRidge = 1e-3;
  using Row = std::array<double, kSize>;
  // Units in which usual steps have numbers near 1, so that the ridge treats all alike.
  static constexpr Row kScale = {1.0, 256.0, 16.0, 8192.0};

  static Row scaled(const StepWork& work) noexcept {
    return {1.0, static_cast<double>(work.prefill_tokens) / kScale[1], static_cast<double>(work.decodes) / kScale[2],
            static_cast<double>(work.context_tokens) / kScale[3]};
  }

  // Coordinate descent on the normal equations from where the last step left off; no coefficient below 0, since more
  // work never takes less time (Franc, Hlavac, Navara 2005).
  void solve() noexcept {
    for (int sweep = 0; sweep < 8; ++sweep) {
      for (std::size_t i = 0; i < kSize; ++i) {
        double sum = target_[i];
        for (std::size_t j = 0; j < kSize; ++j) sum -= j == i ? 0.0 : normal_[i][j] * coefficient_[j];
        coefficient_[i] = std::max(0.0, sum / (normal_[i][i] + kRidge));
      }
    }
  }

  std::array<Row, kSize> normal_{};
  Row target_{};
  Row coefficient_{};
  std::int64_t steps_ = 0;
};

}  // namespace aruntime
