/// \file
/// BasicNet's forward and backward pass on one GPU, queued on one stream. Knows nothing of steps, ranks or data files;
/// `CudaBackend` is its only user.
#pragma once

#include <cublas_v2.h>
#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "trainer/cuda/convolution.hpp"
#include "trainer/cuda/device_array.hpp"

namespace llmlaunch::trainer::cuda {

/// Where the tensors of the flat parameter array start: weight and bias of conv1, conv2, fc1, fc2 in PyTorch's layouts.
struct ParameterOffsets {
  std::size_t conv1_weight, conv1_bias, conv2_weight, conv2_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias;
};

/// How a pass treats dropout: off in evaluation.
struct DropoutChoice {
  bool on = false;
  std::uint64_t seed = 0;
  std::uint64_t first_sample = 0;
  std::uint64_t sample_stride = 1;
};

class BasicNet {
 public:
  BasicNet(cudaStream_t stream, ParameterOffsets offsets);
  ~BasicNet();
  BasicNet(const BasicNet&) = delete;
  BasicNet& operator=(const BasicNet&) = delete;

  /// Host data in; the batch's losses and hits stay on the device until `results`.
  void forward(const float* parameters, std::span<const float> images, std::span<const std::uint8_t> labels,
               DropoutChoice dropout);
  /// The gradient of the mean loss of the last `forward`, times `scale`. `layer_ready(i)` is called, i = 3 … 0, when
  /// the gradient of layer i (fc2, fc1, conv2, conv1) has been queued.
  void backward(const float* parameters, float scale, float* gradient, const std::function<void(int)>& layer_ready);

  struct Results {
    double loss_sum = 0;
    std::uint64_t correct = 0;
  };
  /// Waits for the stream.
  Results results();

 private:
  void resize(std::size_t batch);

  cudaStream_t stream_;
  ParameterOffsets offsets_;
  cublasHandle_t cublas_ = nullptr;
  cudnnHandle_t cudnn_ = nullptr;
  Convolution conv1_;
  Convolution conv2_;
  std::size_t batch_ = 0;
  bool dropped_ = false;
  DeviceArray<float> images_, act1_, act2_, pooled_, hidden_, logits_, losses_;  // forward
  DeviceArray<float> grad1_, grad2_, grad_pooled_, grad_hidden_, grad_logits_;   // backward
  DeviceArray<float> mask_pooled_, mask_hidden_;                                 // dropout's factors
  DeviceArray<std::uint8_t> labels_, taken_;
  DeviceArray<std::int32_t> correct_;
  DeviceArray<std::byte> workspace_;
};

}  // namespace llmlaunch::trainer::cuda
