/// \file
/// What a job asks its model: tests during the training and after it, --predict, and whether all ranks still have the
/// same one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {

class ModelCheck {
 public:
  /// The job outlives it.
  explicit ModelCheck(TrainingJob& job) : job_(job) {}

  /// On all test images. `when` begins the line that tells of it. A loss that is not finite is an error or a warning,
  /// as --on_nan says. A SIGTERM to a job that saves ends it, and the job has stopped. Collective, as all of these.
  Result<void> test(const std::string& when) { return test(when, job_.agenda.saves()); }
  /// As a test after a step, and its record is kept.
  Result<void> test_and_keep(const std::string& when);
  /// Takes the best checkpoint's weights, where there is one, and tests them. Where not all checkpoints could be saved,
  /// it is the best of those that could.
  Result<void> test_best(bool all_saved);
  /// --predict, if it was given.
  Result<void> predict();
  /// Tells how many steps --on_nan skip left out; that it were all of them is an error, for nothing was learnt. Where
  /// half precision's search for a scale took all steps, that is a warning. Weights of no use at the end are an error,
  /// whatever --on_nan says.
  Result<void> check_learnt();
  /// That the parameters are the same on all ranks, as they are if nothing is broken.
  Result<void> compare_ranks(std::uint64_t epoch);

  /// The best checkpoint could not be read; of rank 0.
  const std::optional<Error>& missing_best() const { return missing_best_; }

 private:
  Result<void> test(const std::string& when, bool may_stop);
  Result<void> judge(double loss);
  Result<void> check_weights();

  TrainingJob& job_;
  std::optional<Error> missing_best_;
  std::optional<std::uint64_t> weights_step_;  // rank 0's, where the weights are no longer the last step's
};

}  // namespace llmlaunch::trainer
