/// \file
/// The losses since the last line, whose mean the next one tells, as Hugging Face's Trainer does: one step's own loss
/// says little of a course. Pure; each rank keeps its own, and they meet only where a line is due.
#pragma once

#include <cstdint>
#include <utility>

namespace llmlaunch::trainer {

class UnloggedLosses {
 public:
  /// One more step of this rank.
  void add(double loss) {
    sum_ += loss;
    ++steps_;
  }
  /// Of this rank's steps.
  double sum() const { return sum_; }

  /// The mean over all steps of all ranks, given the sum of their sums. Those steps have their line then.
  double take_mean(double sum_over_ranks, std::uint32_t world_size) {
    sum_ = 0;
    return sum_over_ranks / (static_cast<double>(world_size) * static_cast<double>(std::exchange(steps_, 0)));
  }

 private:
  double sum_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace llmlaunch::trainer
