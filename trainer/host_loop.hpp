/// \file
/// Steps that the host starts one by one: the batches' gradients, their average over the ranks, AdamW.
#pragma once

#include <cstdint>

#include "rendezvous/base/result.hpp"
#include "trainer/batch_loader.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {

class HostLoop {
 public:
  /// Both outlive it.
  HostLoop(TrainingJob& job, BatchLoader& loader) : job_(job), loader_(loader) {}

  /// The epoch's batches from `first` on, as far as the job needs them.
  void load(std::uint64_t epoch, std::uint64_t first);

  /// The job's next step, on batches `first` … `last` - 1 of the epoch, the next that were loaded. On the same way as
  /// the losses the ranks of a job that saves learn whether one of them was told to stop: all find the same, after the
  /// same step, or, where a step is long, within it: then it is not taken.
  Result<void> step(std::uint64_t epoch, std::uint64_t first, std::uint64_t last);

 private:
  struct Batches {
    std::uint64_t epoch, first, last;
  };
  Result<double> gradient_of(const Batches& batches);
  Result<void> look_for_stop();
  Result<std::optional<double>> change_weights(double learning_rate);
  Result<std::optional<double>> measure_gradient(bool wanted);
  void leave_out();
  Result<void> log(double loss, const StepFacts& facts);

  TrainingJob& job_;
  BatchLoader& loader_;
};

}  // namespace llmlaunch::trainer
