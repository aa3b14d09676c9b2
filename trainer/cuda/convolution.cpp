// cuDNN's descriptors and its three convolution calls for one layer. The algorithms are fixed: cuDNN's own choice may
// differ from run to run, and its atomic ones give other sums each time.
#include "trainer/cuda/convolution.hpp"

#include <algorithm>
#include <initializer_list>

#include "trainer/cuda/check.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

static_assert(ConvolutionAlgorithms().forward == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM &&
              ConvolutionAlgorithms().backward_data == CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 &&
              ConvolutionAlgorithms().backward_filter == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1);

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;

}  // namespace

bool is_repeatable(const ConvolutionAlgorithms& algorithms) {
  const auto is_one_of = [](int number, std::initializer_list<int> good) {
    return std::find(good.begin(), good.end(), number) != good.end();
  };
  return is_one_of(
             algorithms.forward,
             {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
              CUDNN_CONVOLUTION_FWD_ALGO_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_FFT, CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
              CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED}) &&
         is_one_of(algorithms.backward_data,
                   {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED}) &&
         is_one_of(algorithms.backward_filter,
                   {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
                    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING});
}

Convolution::Convolution(ConvolutionShape shape, cudnnDataType_t type, const ConvolutionAlgorithms& algorithms)
    : shape_(shape),
      type_(type),
      forward_(static_cast<cudnnConvolutionFwdAlgo_t>(algorithms.forward)),
      backward_data_(static_cast<cudnnConvolutionBwdDataAlgo_t>(algorithms.backward_data)),
      backward_filter_(static_cast<cudnnConvolutionBwdFilterAlgo_t>(algorithms.backward_filter)) {}

// The destructor runs for what the other constructor has made, also when one of these calls fails.
Convolution::Convolution(ConvolutionShape shape, Precision precision, const ConvolutionAlgorithms& algorithms)
    : Convolution(shape, precision == Precision::fp16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT, algorithms) {
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
  CUDNN_CHECK(cudnnGetConvolutionForwardWorkspaceSize, handle, in_, weight_, convolution_, out_, forward_,
              &forward_bytes_);
  CUDNN_CHECK(cudnnGetConvolutionBackwardDataWorkspaceSize, handle, weight_, out_, convolution_, in_, backward_data_,
              &backward_data_bytes_);
  CUDNN_CHECK(cudnnGetConvolutionBackwardFilterWorkspaceSize, handle, in_, out_, convolution_, weight_,
              backward_filter_, &backward_filter_bytes_);
  return std::max({forward_bytes_, backward_data_bytes_, backward_filter_bytes_});
}

void Convolution::forward(cudnnHandle_t handle, void* out, const void* in, const void* weight, void* workspace) {
  CUDNN_CHECK(cudnnConvolutionForward, handle, &kOne, in_, in, weight_, weight, convolution_, forward_, workspace,
              forward_bytes_, &kZero, out_, out);
}

void Convolution::backward_weight(cudnnHandle_t handle, void* weight_gradient, const void* in, const void* out_gradient,
                                  void* workspace) {
  CUDNN_CHECK(cudnnConvolutionBackwardFilter, handle, &kOne, in_, in, out_, out_gradient, convolution_,
              backward_filter_, workspace, backward_filter_bytes_, &kZero, weight_, weight_gradient);
}

void Convolution::backward_input(cudnnHandle_t handle, void* in_gradient, const void* weight, const void* out_gradient,
                                 void* workspace) {
  CUDNN_CHECK(cudnnConvolutionBackwardData, handle, &kOne, weight_, weight, out_, out_gradient, convolution_,
              backward_data_, workspace, backward_data_bytes_, &kZero, in_, in_gradient);
}

}  // namespace llmlaunch::trainer::cuda
