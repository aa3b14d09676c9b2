/// \file
/// A model's forward and backward pass on one GPU, queued on one stream: its layers in a row. Knows nothing of steps,
/// ranks or data files; `CudaBackend` is its only user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "trainer/backend.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/layers.hpp"

namespace llmlaunch::trainer::cuda {

class Network {
 public:
  /// `model` outlives the network.
  Network(cudaStream_t stream, const Model& model, Precision precision);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// Host data in; the batch's losses and hits stay on the device until `results`.
  void forward(const float* parameters, const Batch& batch, DropoutChoice dropout);
  /// The gradient of the mean loss of the last `forward`, times `scale`. `ready(i)` is called when the gradient of
  /// parameter i has been queued, last layer first, bias before weight.
  void backward(float scale, float* gradient, const std::function<void(std::size_t)>& ready);

  struct Results {
    double loss_sum = 0;
    std::uint64_t correct = 0;
  };
  /// Waits for the stream.
  Results results();
  /// (B, 10), of the last `forward`. Waits for the stream.
  std::vector<float> logits();

 private:
  void resize(std::size_t batch);

  CudaContext context_;
  const Model& model_;
  CudaPass pass_;  // the last forward's
  std::size_t batch_ = 0;
  std::vector<std::unique_ptr<CudaLayer>> layers_;  // one for each stage of the model
  std::vector<float*> values_;                      // the images, then what each layer gave
  DeviceArray<float> images_, losses_, grad_logits_;
  DeviceArray<std::uint8_t> labels_;
  DeviceArray<std::int32_t> correct_;
};

}  // namespace llmlaunch::trainer::cuda
