/// \file
/// A model's forward and backward pass on the CPU for one batch size: its layers in a row. Knows nothing of steps,
/// ranks or data files; `CpuBackend` is its only user. Throws `dnnl::error` and `std::bad_alloc`.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/cpu_layers.hpp"

namespace llmlaunch::trainer {

class CpuNetwork {
 public:
  /// `device` and `model` must outlive the network. BasicNet: about 0.4 MB per image, 0.6 once `backward` has been
  /// called.
  CpuNetwork(CpuDevice& device, const Model& model, std::size_t batch);

  /// `parameters`: model.values. `batch` is of the size given to the constructor.
  BatchResult forward(const float* parameters, const Batch& batch, const DropoutPass& dropout);
  /// The gradient of the mean loss of the last `forward`, whose batch and parameters are still there, times `scale`.
  Result<void> backward(const Batch& batch, float scale, float* gradient, const GradientReady& ready);
  /// (B, 10), of the last `forward`.
  std::span<const float> logits() const { return values_of(layers_.back()->out()); }

 private:
  CpuDevice& device_;
  const Model& model_;
  CpuPass pass_;  // the last forward's
  dnnl::memory images_;
  std::vector<std::unique_ptr<CpuLayer>> layers_;  // one for each stage of the model
  dnnl::memory grad_logits_;
};

}  // namespace llmlaunch::trainer
