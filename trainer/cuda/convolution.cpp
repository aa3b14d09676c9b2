// cuDNN's descriptors and its three convolution calls for one layer. The algorithms are fixed: cuDNN's own choice may
// differ from run to run, and its atomic ones give other sums each time.
#include "trainer/cuda/convolution.hpp"

#include <algorithm>

#include "trainer/cuda/check.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

constexpr auto kForward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
constexpr auto kBackwardData = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
constexpr auto kBackwardFilter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;

}  // namespace

// The destructor runs for what the other constructor has made, also when one of these calls fails.
Convolution::Convolution(ConvolutionShape shape, Precision precision)
    : Convolution(shape, precision == Precision::fp16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT) {
  CUDNN_CHECK(cudnnCreateTensorDescriptor, &in_);
  CUDNN_CHECK(cudnnCreateTensorDescriptor, &out_);
  CUDNN_CHECK(cudnnCreateFilterDescriptor, &weight_);
  CUDNN_CHECK(cudnnCreateConvolutionDescriptor, &convolution_);
  CUDNN_CHECK(cudnnSetFilter4dDescriptor, weight_, type_, CUDNN_TENSOR_NCHW, shape.out_channels, shape.in_channels,
              shape.kernel, shape.kernel);
  CUDNN_CHECK(cudnnSetConvolution2dDescriptor, convolution_, 0, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION,
              CUDNN_DATA_FLOAT);
  // Sums are floats always. With float tensors cuDNN's tensor cores take TF32; bfloat16 ones would have to be kept
  // beside them, as halves are.
  CUDNN_CHECK(cudnnSetConvolutionMathType, convolution_,
              precision == Precision::fp32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH);
}

Convolution::~Convolution() {
  if (convolution_ != nullptr) cudnn().cudnnDestroyConvolutionDescriptor(convolution_);
  if (weight_ != nullptr) cudnn().cudnnDestroyFilterDescriptor(weight_);
  if (out_ != nullptr) cudnn().cudnnDestroyTensorDescriptor(out_);
  if (in_ != nullptr) cudnn().cudnnDestroyTensorDescriptor(in_);
}

std::size_t Convolution::prepare(cudnnHandle_t handle, int batch) {
  CUDNN_CHECK(cudnnSetTensor4dDescriptor, in_, CUDNN_TENSOR_NCHW, type_, batch, shape_.in_channels, shape_.height,
              shape_.width);
  CUDNN_CHECK(cudnnSetTensor4dDescriptor, out_, CUDNN_TENSOR_NCHW, type_, batch, shape_.out_channels,
              shape_.height - shape_.kernel + 1, shape_.width - shape_.kernel + 1);
  std::size_t forward = 0;
  std::size_t data = 0;
  std::size_t filter = 0;
  CUDNN_CHECK(cudnnGetConvolutionForwardWorkspaceSize, handle, in_, weight_, convolution_, out_, kForward, &forward);
  CUDNN_CHECK(cudnnGetConvolutionBackwardDataWorkspaceSize, handle, weight_, out_, convolution_, in_, kBackwardData,
              &data);
  CUDNN_CHECK(cudnnGetConvolutionBackwardFilterWorkspaceSize, handle, in_, out_, convolution_, weight_, kBackwardFilter,
              &filter);
  return std::max({forward, data, filter});
}

void Convolution::forward(cudnnHandle_t handle, void* out, const void* in, const void* weight, void* workspace,
                          std::size_t workspace_bytes) {
  CUDNN_CHECK(cudnnConvolutionForward, handle, &kOne, in_, in, weight_, weight, convolution_, kForward, workspace,
              workspace_bytes, &kZero, out_, out);
}

void Convolution::backward_weight(cudnnHandle_t handle, void* weight_gradient, const void* in, const void* out_gradient,
                                  void* workspace, std::size_t workspace_bytes) {
  CUDNN_CHECK(cudnnConvolutionBackwardFilter, handle, &kOne, in_, in, out_, out_gradient, convolution_, kBackwardFilter,
              workspace, workspace_bytes, &kZero, weight_, weight_gradient);
}

void Convolution::backward_input(cudnnHandle_t handle, void* in_gradient, const void* weight, const void* out_gradient,
                                 void* workspace, std::size_t workspace_bytes) {
  CUDNN_CHECK(cudnnConvolutionBackwardData, handle, &kOne, weight_, weight, out_, out_gradient, convolution_,
              kBackwardData, workspace, workspace_bytes, &kZero, in_, in_gradient);
}

}  // namespace llmlaunch::trainer::cuda
