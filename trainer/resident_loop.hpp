/// \file
/// --cuda_graph: steps that the device takes by itself, and the host's looks at them. The loop's own steps are
/// `HostLoop`'s wherever these may not be.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "rendezvous/base/result.hpp"
#include "trainer/resident.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {

class ResidentLoop {
 public:
  /// The job outlives it. `on_host`: there is no device, and the host takes the steps of its loop.
  ResidentLoop(TrainingJob& job, bool on_host) : job_(job), on_host_(on_host) {}

  /// A step was taken by the host. The first ones are never resident.
  void host_step_taken();

  /// How many steps from batch `first` of an epoch on may be resident: as many as the epoch has full batches, and the
  /// job steps. With these flags a step is a batch.
  std::uint64_t steps_from(std::uint64_t first) const;

  /// So many steps from batch `first` of the epoch on; `after` is called after each that anything is due after, and
  /// where no more may be in flight. None is taken, and `steps_from` gives 0 from then on, where a rank's device
  /// cannot.
  Result<void> train(std::uint64_t epoch, std::uint64_t first, std::uint64_t count,
                     const std::function<Result<void>()>& after);

  /// A graph goes before the communicator that it uses.
  void close() { steps_.reset(); }

 private:
  ResidentPlan plan();
  Result<void> prepare();
  Result<void> agree(Result<std::unique_ptr<ResidentSteps>> made);
  Result<void> begin(std::uint64_t epoch, std::uint64_t first, std::uint64_t count);
  Result<void> look(std::uint64_t count);
  Result<std::optional<double>> norm_to_show();
  /// The mean over the ranks of their losses of a step.
  Result<double> mean_loss(std::uint64_t step, const std::vector<std::vector<double>>& said, std::size_t index) const;

  TrainingJob& job_;
  const bool on_host_;
  std::unique_ptr<ResidentSteps> steps_;  // from the first of them on
  bool refused_ = false;
  std::uint64_t host_steps_ = 0;  // of this run, up to kHostSteps
};

}  // namespace llmlaunch::trainer
