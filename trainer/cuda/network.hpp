/// \file
/// A model's forward and backward pass on one GPU, queued on one stream or two: its layers in a row. Knows nothing of
/// steps, ranks or data files; `CudaBackend` is its only user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "trainer/backend.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/graph_streams.hpp"
#include "trainer/cuda/layers.hpp"
#include "trainer/cuda/stream.hpp"

namespace llmlaunch::trainer::cuda {

class Network {
 public:
  /// `model` outlives the network. With two streams `backward` queues the gradients of weights on `stream`, and what
  /// leads to the next of them, the longest way through it, on one of its own; fp16 always has one.
  Network(cudaStream_t stream, const Model& model, Precision precision, GraphStreams streams = GraphStreams::one,
          const ConvolutionAlgorithms& algorithms = {});
  /// Waits: what was queued before a call that failed still works on the arrays, the caller's, too.
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// Host data in, which lives until `results` or `logits`; the batch's losses and hits stay on the device until then.
  /// `scale`: of the mean loss whose gradient `backward` is to follow; without one there is no way back.
  void forward(const float* parameters, const Batch& batch, DropoutChoice dropout, std::optional<float> scale = {});
  /// The same for `batch` images of the device's memory: those of `images` at `current`. Allocates nothing from its
  /// second call on, with the `backward` of the first.
  void forward(const float* parameters, const ResidentImages& images, const KeptLosses& keep, std::uint64_t stride,
               std::size_t batch, DropoutChoice dropout);
  /// The gradient for the last `forward`. `ready(i)` is called when the gradient of parameter i has been queued, last
  /// layer first, bias before weight.
  void backward(float* gradient, const std::function<void(std::size_t)>& ready);

  struct Results {
    double loss_sum = 0;
    std::uint64_t correct = 0;
  };
  /// Waits for the stream.
  Results results();
  /// (B, 10), of the last `forward`. Waits for the stream.
  std::vector<float> logits();

 private:
  /// A second stream, and the order between both.
  struct Branch {
    Stream stream;
    Event event;
    CudaContext context;
  };

  void resize(std::size_t batch);
  void pass_layers(std::optional<float> scale, const KeptLosses& keep);
  bool leaves_gate(std::size_t i) const;

  CudaContext context_;
  std::unique_ptr<Branch> branch_;
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
