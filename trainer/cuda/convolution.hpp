/// \file
/// One convolution without padding or bias, by cuDNN, with deterministic algorithms, so that its numbers repeat bit for
/// bit; in plain fp32 (no TF32), unless less is asked for, so that they are those of the CPU up to rounding.
#pragma once

#include <cudnn.h>

#include <cstddef>

#include "trainer/backend.hpp"
#include "trainer/cuda/convolution_algorithms.hpp"

namespace llmlaunch::trainer::cuda {

/// (B, in_channels, height, width) → (B, out_channels, height - kernel + 1, width - kernel + 1)
struct ConvolutionShape {
  int in_channels, out_channels, height, width, kernel;
};

class Convolution {
 public:
  /// Throws `DeviceError`, as everything here.
  Convolution(ConvolutionShape shape, Precision precision, const ConvolutionAlgorithms& algorithms = {});
  ~Convolution();
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;

  const ConvolutionShape& shape() const { return shape_; }

  /// Device memory that the calls below need for batches of this size. Sets the batch size for them.
  std::size_t prepare(cudnnHandle_t handle, int batch);
  // All of them arrays of floats, or for `Precision::fp16` of halves. Of a workspace that is larger, as other layers
  // and batches may want it, cuDNN hears nothing: what it chooses for one may depend on the size.
  void forward(cudnnHandle_t handle, void* out, const void* in, const void* weight, void* workspace);
  void backward_weight(cudnnHandle_t handle, void* weight_gradient, const void* in, const void* out_gradient,
                       void* workspace);
  void backward_input(cudnnHandle_t handle, void* in_gradient, const void* weight, const void* out_gradient,
                      void* workspace);

 private:
  Convolution(ConvolutionShape shape, cudnnDataType_t type, const ConvolutionAlgorithms& algorithms);

  ConvolutionShape shape_;
  cudnnDataType_t type_;
  std::size_t forward_bytes_ = 0, backward_data_bytes_ = 0, backward_filter_bytes_ = 0;  // of workspace
  cudnnConvolutionFwdAlgo_t forward_;
  cudnnConvolutionBwdDataAlgo_t backward_data_;
  cudnnConvolutionBwdFilterAlgo_t backward_filter_;
  cudnnTensorDescriptor_t in_ = nullptr;
  cudnnTensorDescriptor_t out_ = nullptr;
  cudnnFilterDescriptor_t weight_ = nullptr;
  cudnnConvolutionDescriptor_t convolution_ = nullptr;
};

}  // namespace llmlaunch::trainer::cuda
