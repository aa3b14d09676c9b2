/// \file
/// A model on one device: what the training loop drives. Bodies: the CPU's (oneDNN) and the GPU's (trainer/cuda/).
/// Parameters and gradients are flat arrays in the memory of the device, tensors in the order of `Model::parameters`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/model.hpp"
#include "trainer/precision.hpp"
#include "trainer/resident.hpp"

namespace llmlaunch::trainer {

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
  float scale = 1;  ///< the gradient of the mean loss × this: 1 / batches, when several make one step, and × what
                    ///< a loss of fp16 is scaled by
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

  virtual const Model& model() const = 0;

  // Memory of the device, model().values each.
  virtual std::span<float> parameters() = 0;
  virtual std::span<float> gradient() = 0;

  virtual Result<void> load_parameters(std::span<const float> host) = 0;
  virtual Result<std::vector<float>> copy_parameters() = 0;
  /// Waits for all that was asked for. On a CPU a call returns when it is done.
  virtual Result<void> synchronize() { return ok; }

  /// AdamW's memory, model().values each: 0 at the start.
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
  /// Scales the gradient, whose norm over all parameters is `norm`, so that it is at most `max_norm` (above 0), as
  /// PyTorch's clip_grad_norm_.
  virtual Result<void> clip_gradient(double norm, double max_norm) = 0;
  /// Multiplies the gradient by `factor`, 1 / what the loss was scaled by. The norm that it then has: not finite when
  /// any of its values is not.
  virtual Result<double> unscale_gradient(float factor) = 0;
  /// Other numbers of the optimizer from now on: those of a checkpoint.
  virtual void use_adamw(const AdamWOptions& adamw) = 0;
  /// One AdamW step by the gradient; `step` counts from 1.
  virtual Result<void> optimizer_step(std::uint64_t step, double learning_rate) = 0;
  /// Forward without dropout.
  virtual Result<BatchResult> evaluate(const Batch& batch) = 0;
  /// The same for the logits themselves, (B, 10) in host memory: what `evaluate` takes the loss of.
  virtual Result<std::vector<float>> predict(const Batch& batch) = 0;
  /// Steps that the device takes by itself, on this backend's parameters and moments; outlived by it and by what `plan`
  /// calls. To be made after steps of the ordinary kind, when all libraries know their sizes. `Errc::unsupported` where
  /// the device cannot.
  virtual Result<std::unique_ptr<ResidentSteps>> make_resident([[maybe_unused]] const ResidentPlan& plan) {
    return make_error(Errc::unsupported, "a CPU takes no steps by itself");
  }
};

}  // namespace llmlaunch::trainer
