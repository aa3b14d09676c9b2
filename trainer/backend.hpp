/// \file
/// BasicNet on one device: what the training loop drives. Bodies: the CPU's (oneDNN) and the GPU's (trainer/cuda/).
/// Parameters and gradients are flat arrays in the memory of the device, tensors in the order of `kParameters`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// One tensor of the flat arrays: values `first` … `first + count - 1`, in PyTorch's layout.
struct Parameter {
  const char* name;
  std::size_t first, count;
  std::array<std::uint64_t, 4> shape;  ///< 0 from the first dimension on that it has not
};
inline constexpr std::array<Parameter, 8> kParameters = {{
    {"conv1.weight", 0, 288, {32, 1, 3, 3}},
    {"conv1.bias", 288, 32, {32}},
    {"conv2.weight", 320, 18'432, {64, 32, 3, 3}},
    {"conv2.bias", 18'752, 64, {64}},
    {"fc1.weight", 18'816, 1'179'648, {128, 9216}},
    {"fc1.bias", 1'198'464, 128, {128}},
    {"fc2.weight", 1'198'592, 1'280, {10, 128}},
    {"fc2.bias", 1'199'872, 10, {10}},
}};
inline constexpr std::size_t kParameterValues = 1'199'882;

/// The dimensions of a tensor, as PyTorch's.
inline std::vector<std::uint64_t> shape_of(const Parameter& parameter) {
  std::vector<std::uint64_t> shape;
  for (const std::uint64_t side : parameter.shape) {
    if (side > 0) shape.push_back(side);
  }
  return shape;
}

/// Which samples of the run a batch holds: image b is sample `first` + b × `stride`. A sample's number says when in the
/// run it is seen, whichever rank sees it, so that dropout's masks, which depend on it, do not depend on the ranks.
struct SampleNumbers {
  std::uint64_t first = 0;
  std::uint64_t stride = 1;
};

/// Normalised images and their labels, in host memory.
struct Batch {
  std::span<const float> images;         // (B, 1, 28, 28)
  std::span<const std::uint8_t> labels;  // (B)
  SampleNumbers samples = {};
};

/// Sums over a batch; the mean loss is loss_sum / count.
struct BatchResult {
  double loss_sum = 0;
  std::uint64_t correct = 0;
  std::uint64_t count = 0;
};

/// What a backward pass does with its gradient.
struct GradientUse {
  float scale = 1;          ///< the gradient of the mean loss × this: 1 / batches, when several make one step
  bool accumulate = false;  ///< add to the gradient that is there, instead of replacing it
};

/// The factor by which clip_grad_norm_ scales a gradient of norm `norm`. Not a number where the norm is none.
inline float clip_factor(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  return static_cast<float>(factor > 1 ? 1 : factor);
}

/// PyTorch's AdamW, but for the learning rate, which each step is told.
struct AdamWOptions {
  double weight_decay = 1e-2;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

/// Dropout's masks depend on the seed and the sample's number only. Off: the network of evaluation.
struct DropoutOptions {
  bool on = true;
  std::uint64_t seed = 0;
};

/// Called from inside the backward pass: the gradient of parameter `index` is complete (on a GPU: queued).
using GradientReady = std::function<Result<void>(std::size_t index)>;

class Backend {
 public:
  Backend() = default;
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// "cpu (oneDNN 2.6.3, 2 threads)"
  virtual std::string description() const = 0;

  // Memory of the device, kParameterValues each.
  virtual std::span<float> parameters() = 0;
  virtual std::span<float> gradient() = 0;

  virtual Result<void> load_parameters(std::span<const float> host) = 0;
  virtual Result<std::vector<float>> copy_parameters() = 0;

  /// AdamW's memory, kParameterValues each: 0 at the start.
  struct Moments {
    std::vector<float> first, second;
  };
  virtual Result<void> load_moments(const Moments& host) = 0;
  virtual Result<Moments> copy_moments() = 0;
  /// The same in the memory of the device.
  virtual std::array<std::span<float>, 2> moments() = 0;

  /// Forward and backward; the gradient of the batch's mean loss, used as `use` says. Calls `ready` for each parameter,
  /// last layer first; an error of it ends the pass and is returned.
  virtual Result<BatchResult> forward_backward(const Batch& batch, const GradientUse& use,
                                               const GradientReady& ready) = 0;
  /// The gradient's norm over all parameters. Not finite when any of its values is not.
  virtual Result<double> gradient_norm() = 0;
  /// Scales the gradient so that its norm over all parameters is at most `max_norm` (above 0), as PyTorch's
  /// clip_grad_norm_. The norm that it had.
  virtual Result<double> clip_gradient(double max_norm) = 0;
  /// Other numbers of the optimizer from now on: those of a checkpoint.
  virtual void use_adamw(const AdamWOptions& adamw) = 0;
  /// One AdamW step by the gradient; `step` counts from 1.
  virtual Result<void> optimizer_step(std::uint64_t step, double learning_rate) = 0;
  /// Forward without dropout.
  virtual Result<BatchResult> evaluate(const Batch& batch) = 0;
};

}  // namespace llmlaunch::trainer
