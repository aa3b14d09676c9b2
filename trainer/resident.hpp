/// \file
/// Steps that a device takes without the host between them: the images and an epoch's order lie in its memory, and the
/// host launches step after step and looks at the losses now and then. Bodies: a CUDA graph (trainer/cuda/step_graph),
/// and the host itself (host_steps.hpp), which takes each step when it is launched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

struct Dataset;

/// Steps that may be launched and not looked at: where the losses wait has room for so many, and so late may the host
/// notice a stop.
inline constexpr std::size_t kStepsInFlight = 64;

/// What is the same for all steps of a job.
struct ResidentPlan {
  const Dataset* images = nullptr;                   ///< outlives the steps
  std::size_t batch_size = 1;                        ///< of every step
  std::uint64_t most_positions = 0, most_steps = 0;  ///< that one `begin` may give
  std::uint64_t sample_stride = 1;                   ///< as SampleNumbers::stride
  /// A loss that is not finite, and from then on no step changes a weight.
  bool halts = true;
  /// As Backend::forward_backward's: the gradient of a parameter is queued.
  std::function<Result<void>(std::size_t)> ready;
  /// All gradients are queued: what is queued from now on sees their averages. The host does not wait.
  std::function<Result<void>()> averaged;
  /// Until all that was queued is done, watching the other ranks meanwhile.
  std::function<Result<void>()> drained;
};

/// What one step has for itself.
struct ResidentStep {
  std::uint64_t first_position = 0;  ///< of its images in the order
  std::uint64_t first_sample = 0;    ///< as SampleNumbers::first
  std::uint64_t optimizer_step = 1;
  double learning_rate = 0;
};

class ResidentSteps {
 public:
  ResidentSteps() = default;
  virtual ~ResidentSteps() = default;
  ResidentSteps(const ResidentSteps&) = delete;
  ResidentSteps& operator=(const ResidentSteps&) = delete;

  /// The steps to come, on the images at `order`. All that were launched have been collected.
  virtual Result<void> begin(std::span<const std::uint32_t> order, std::span<const ResidentStep> steps) = 0;
  /// The next step. At most kStepsInFlight since the last `collect`.
  virtual Result<void> launch() = 0;
  /// The mean losses of the steps launched since the last call, in order. Waits for them.
  virtual Result<std::vector<double>> collect() = 0;
};

}  // namespace llmlaunch::trainer
