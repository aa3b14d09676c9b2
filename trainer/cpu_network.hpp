/// \file
/// BasicNet's forward and backward pass on the CPU for one batch size: layers and the activations between them. Knows
/// nothing of steps, ranks or data files; `CpuBackend` is its only user. Throws `dnnl::error` and `std::bad_alloc`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/cpu_layers.hpp"

namespace llmlaunch::trainer {

/// How a pass treats dropout: off in evaluation.
struct DropoutPass {
  bool on = false;
  std::uint64_t seed = 0;
};

class CpuNetwork {
 public:
  /// `device` must outlive the network. About 0.4 MB per image, 0.6 once `backward` has been called.
  CpuNetwork(CpuDevice& device, std::size_t batch);

  /// `parameters`: kParameterValues. `batch` is of the size given to the constructor.
  BatchResult forward(const float* parameters, const Batch& batch, const DropoutPass& dropout);
  /// The gradient of the mean loss of the last `forward`, whose batch and parameters are still there, times `scale`.
  Result<void> backward(const float* parameters, const Batch& batch, float scale, float* gradient,
                        const GradientReady& ready);

 private:
  Result<void> backward_linear(const float* parameters, float* gradient, const GradientReady& ready);
  Result<void> backward_convolutions(const float* parameters, const Batch& batch, float* gradient,
                                     const GradientReady& ready);

  CpuDevice& device_;
  std::size_t batch_;
  ReluConvolution conv2_;  // first: it says how conv1's output should lie
  ReluConvolution conv1_;
  MaxPool pool_;
  Linear fc1_;
  Linear fc2_;
  bool dropped_ = false;

  // Activations after relu; the flat ones also after dropout.
  dnnl::memory act1_;          // (B, 32, 26, 26)
  dnnl::memory act2_;          // (B, 64, 24, 24)
  dnnl::memory pooled_;        // (B, 64, 12, 12), pool's layout
  std::vector<float> flat_;    // (B, 9216)
  std::vector<float> hidden_;  // (B, 128)
  std::vector<float> logits_;  // (B, 10)
  // Their gradients, before relu; the large ones exist from the first `backward` on.
  dnnl::memory grad1_, grad2_;
  std::vector<float> grad_flat_, grad_hidden_, grad_logits_;
};

}  // namespace llmlaunch::trainer
