// cuDNN's functions that trainer/cuda/ calls: convolutions of (B, C, H, W) without padding, as a product of matrices
// for each image.
#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "tests/support/cuda_host/memory.hpp"
#include "tests/support/cuda_host/operands.hpp"
#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
  cudnnDataType_t type{};
  std::array<int, 4> extents{};
};
struct cudnnFilterStruct {
  cudnnDataType_t type{};
  std::array<int, 4> extents{};
};
struct cudnnConvolutionStruct {
  bool is_set = false;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

using namespace cuda_host;

namespace {

/// One convolution's sizes and types, checked.
struct Convolution {
  std::size_t batch, in_channels, height, width, out_channels, kernel_height, kernel_width;
  bool is_half;
  Rounding rounding;

  std::size_t out_height() const { return height - kernel_height + 1; }
  std::size_t out_width() const { return width - kernel_width + 1; }
  std::size_t image() const { return in_channels * height * width; }
  std::size_t area() const { return out_height() * out_width(); }
  std::size_t out_image() const { return out_channels * area(); }
  std::size_t window() const { return in_channels * kernel_height * kernel_width; }
  std::size_t weights() const { return out_channels * window(); }
  std::size_t value_bytes() const { return is_half ? sizeof(__half) : sizeof(float); }
  /// Made up, but of some size, so that one for another batch does not do.
  std::size_t workspace() const { return 4096 + batch * window() * sizeof(float); }
};

/// False when the descriptors do not fit.
bool fit(Convolution& result, const cudnnTensorStruct* in, const cudnnFilterStruct* weight,
         const cudnnConvolutionStruct* convolution, const cudnnTensorStruct* out) {
  if (!convolution->is_set || in->type != out->type || in->type != weight->type) return false;
  const auto size = [](int value) { return static_cast<std::size_t>(value); };
  result = {.batch = size(in->extents[0]),
            .in_channels = size(in->extents[1]),
            .height = size(in->extents[2]),
            .width = size(in->extents[3]),
            .out_channels = size(weight->extents[0]),
            .kernel_height = size(weight->extents[2]),
            .kernel_width = size(weight->extents[3]),
            .is_half = in->type == CUDNN_DATA_HALF,
            .rounding =
                in->type == CUDNN_DATA_FLOAT && convolution->math != CUDNN_FMA_MATH ? Rounding::tf32 : Rounding::none};
  return size(weight->extents[1]) == result.in_channels && result.kernel_height <= result.height &&
         result.kernel_width <= result.width && size(out->extents[0]) == result.batch &&
         size(out->extents[1]) == result.out_channels && size(out->extents[2]) == result.out_height() &&
         size(out->extents[3]) == result.out_width();
}

/// Column `place` is the window of the image from which the convolution computes that place: (window, area).
std::vector<float> windows(const Convolution& c, const float* image) {
  std::vector<float> result(c.window() * c.area());
  float* to = result.data();
  for (std::size_t channel = 0; channel < c.in_channels; ++channel) {
    for (std::size_t dy = 0; dy < c.kernel_height; ++dy) {
      for (std::size_t dx = 0; dx < c.kernel_width; ++dx) {
        for (std::size_t y = 0; y < c.out_height(); ++y, to += c.out_width()) {
          std::copy_n(image + (channel * c.height + y + dy) * c.width + dx, c.out_width(), to);
        }
      }
    }
  }
  return result;
}

/// Adds each window back to where it was taken from.
void add_windows(const Convolution& c, float* image, const std::vector<float>& from) {
  const float* next = from.data();
  for (std::size_t channel = 0; channel < c.in_channels; ++channel) {
    for (std::size_t dy = 0; dy < c.kernel_height; ++dy) {
      for (std::size_t dx = 0; dx < c.kernel_width; ++dx) {
        for (std::size_t y = 0; y < c.out_height(); ++y) {
          float* const row = image + (channel * c.height + y + dy) * c.width + dx;
          for (std::size_t x = 0; x < c.out_width(); ++x) row[x] += *next++;
        }
      }
    }
  }
}

void forward(const Convolution& c, void* out, const void* in, const void* weight) {
  const auto images = read_operand(in, c.is_half, c.batch * c.image(), c.rounding);
  const auto weights = read_operand(weight, c.is_half, c.weights(), c.rounding);
  std::vector<float> result(c.batch * c.out_image());
  for (std::size_t b = 0; b < c.batch; ++b) {
    const auto columns = windows(c, images.data() + b * c.image());
    multiply(result.data() + b * c.out_image(), c.area(), {weights.data(), c.window(), 1},
             {columns.data(), c.area(), 1}, c.out_channels, c.area(), c.window(), false);
  }
  write_result(out, c.is_half, result);
}

void backward_filter(const Convolution& c, void* weight_gradient, const void* in, const void* out_gradient) {
  const auto images = read_operand(in, c.is_half, c.batch * c.image(), c.rounding);
  const auto gradients = read_operand(out_gradient, c.is_half, c.batch * c.out_image(), c.rounding);
  std::vector<float> result(c.weights());
  for (std::size_t b = 0; b < c.batch; ++b) {
    const auto columns = windows(c, images.data() + b * c.image());
    multiply(result.data(), c.window(), {gradients.data() + b * c.out_image(), c.area(), 1},
             {columns.data(), 1, c.area()}, c.out_channels, c.window(), c.area(), b > 0);
  }
  write_result(weight_gradient, c.is_half, result);
}

void backward_data(const Convolution& c, void* in_gradient, const void* weight, const void* out_gradient) {
  const auto weights = read_operand(weight, c.is_half, c.weights(), c.rounding);
  const auto gradients = read_operand(out_gradient, c.is_half, c.batch * c.out_image(), c.rounding);
  std::vector<float> result(c.batch * c.image());
  std::vector<float> columns(c.window() * c.area());
  for (std::size_t b = 0; b < c.batch; ++b) {
    multiply(columns.data(), c.area(), {weights.data(), 1, c.window()},
             {gradients.data() + b * c.out_image(), c.area(), 1}, c.window(), c.area(), c.out_channels, false);
    add_windows(c, result.data() + b * c.image(), columns);
  }
  write_result(in_gradient, c.is_half, result);
}

/// The common part of the three calls: checks, and what is queued.
template <class Function>
cudnnStatus_t queue_convolution(const char* name, cudnnHandle_t handle, const Convolution& c, const void* alpha,
                                const void* beta, const void* in, const void* weight, const void* out, void* workspace,
                                std::size_t workspace_bytes, Function&& function) {
  if (const int code = injected_failure(name); code != 0) return static_cast<cudnnStatus_t>(code);
  if (*static_cast<const float*>(alpha) != 1.0F || *static_cast<const float*>(beta) != 0.0F) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (workspace_bytes < c.workspace() || !is_device_memory(workspace, workspace_bytes)) return CUDNN_STATUS_BAD_PARAM;
  // The real one finds out on the device.
  if (!is_device_memory(in, c.batch * c.image() * c.value_bytes()) ||
      !is_device_memory(weight, c.weights() * c.value_bytes()) ||
      !is_device_memory(out, c.batch * c.out_image() * c.value_bytes())) {
    return CUDNN_STATUS_EXECUTION_FAILED;
  }
  const Lock lock(device_mutex());
  CUstream_st* const stream = find_stream(handle->stream);
  if (stream == nullptr) return CUDNN_STATUS_EXECUTION_FAILED;
  char kind[120];
  std::snprintf(kind, sizeof kind, "%s of %zu × %zu × %zu × %zu to %zu, half %d", name, c.batch, c.in_channels,
                c.height, c.width, c.out_channels, c.is_half);
  if (refuse_first_use(*stream, kind) != cudaSuccess) return CUDNN_STATUS_EXECUTION_FAILED;
  const cudaError_t queued = queue(*stream, {name, [=]() -> std::function<bool()> {
                                               scribble(workspace, workspace_bytes);
                                               function();
                                               return nullptr;
                                             }});
  return queued == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

template <class Struct>
cudnnStatus_t make(Struct** result) {
  *result = new Struct;
  return CUDNN_STATUS_SUCCESS;
}
template <class Struct>
cudnnStatus_t drop(Struct* one) {
  delete one;
  return CUDNN_STATUS_SUCCESS;
}

template <class Struct>
cudnnStatus_t set(Struct* one, cudnnTensorFormat_t format, cudnnDataType_t type, std::array<int, 4> extents) {
  if (format != CUDNN_TENSOR_NCHW || (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_HALF)) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  for (const int extent : extents) {
    if (extent <= 0) return CUDNN_STATUS_BAD_PARAM;
  }
  *one = {.type = type, .extents = extents};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t workspace_of(const cudnnTensorStruct* in, const cudnnFilterStruct* weight,
                           const cudnnConvolutionStruct* convolution, const cudnnTensorStruct* out,
                           std::size_t* bytes) {
  Convolution c;
  if (!fit(c, in, weight, convolution, out)) return CUDNN_STATUS_BAD_PARAM;
  *bytes = c.workspace();
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (const int code = injected_failure("cudnnCreate"); code != 0) return static_cast<cudnnStatus_t>(code);
  const Lock lock(device_mutex());
  if (refuse_unsafe_call() != cudaSuccess) return CUDNN_STATUS_NOT_INITIALIZED;  // it allocates
  return make(handle);
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  return drop(handle);
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS of another kind";
  }
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* result) {
  return make(result);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t one) {
  return drop(one);
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t one, cudnnTensorFormat_t format, cudnnDataType_t type,
                                         int n, int c, int h, int w) {
  return set(one, format, type, {n, c, h, w});
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* result) {
  return make(result);
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t one) {
  return drop(one);
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t one, cudnnDataType_t type, cudnnTensorFormat_t format,
                                         int k, int c, int h, int w) {
  return set(one, format, type, {k, c, h, w});
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* result) {
  return make(result);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t one) {
  return drop(one);
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t one, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
  one->is_set = pad_h == 0 && pad_w == 0 && u == 1 && v == 1 && dilation_h == 1 && dilation_w == 1 &&
                mode == CUDNN_CROSS_CORRELATION && compute == CUDNN_DATA_FLOAT;
  return one->is_set ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t one, cudnnMathType_t math) {
  one->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t in,
                                                      cudnnFilterDescriptor_t weight,
                                                      cudnnConvolutionDescriptor_t convolution,
                                                      cudnnTensorDescriptor_t out, cudnnConvolutionFwdAlgo_t,
                                                      std::size_t* bytes) {
  return workspace_of(in, weight, convolution, out, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t weight,
                                                           cudnnTensorDescriptor_t out,
                                                           cudnnConvolutionDescriptor_t convolution,
                                                           cudnnTensorDescriptor_t in, cudnnConvolutionBwdDataAlgo_t,
                                                           std::size_t* bytes) {
  return workspace_of(in, weight, convolution, out, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t in,
                                                             cudnnTensorDescriptor_t out,
                                                             cudnnConvolutionDescriptor_t convolution,
                                                             cudnnFilterDescriptor_t weight,
                                                             cudnnConvolutionBwdFilterAlgo_t, std::size_t* bytes) {
  return workspace_of(in, weight, convolution, out, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t in_shape,
                                      const void* in, cudnnFilterDescriptor_t weight_shape, const void* weight,
                                      cudnnConvolutionDescriptor_t convolution, cudnnConvolutionFwdAlgo_t,
                                      void* workspace, std::size_t workspace_bytes, const void* beta,
                                      cudnnTensorDescriptor_t out_shape, void* out) {
  Convolution c;
  if (!fit(c, in_shape, weight_shape, convolution, out_shape)) return CUDNN_STATUS_BAD_PARAM;
  return queue_convolution("cudnnConvolutionForward", handle, c, alpha, beta, in, weight, out, workspace,
                           workspace_bytes, [=] { forward(c, out, in, weight); });
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           cudnnFilterDescriptor_t weight_shape, const void* weight,
                                           cudnnTensorDescriptor_t out_shape, const void* out_gradient,
                                           cudnnConvolutionDescriptor_t convolution, cudnnConvolutionBwdDataAlgo_t,
                                           void* workspace, std::size_t workspace_bytes, const void* beta,
                                           cudnnTensorDescriptor_t in_shape, void* in_gradient) {
  Convolution c;
  if (!fit(c, in_shape, weight_shape, convolution, out_shape)) return CUDNN_STATUS_BAD_PARAM;
  return queue_convolution("cudnnConvolutionBackwardData", handle, c, alpha, beta, in_gradient, weight, out_gradient,
                           workspace, workspace_bytes, [=] { backward_data(c, in_gradient, weight, out_gradient); });
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t in_shape,
                                             const void* in, cudnnTensorDescriptor_t out_shape,
                                             const void* out_gradient, cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t, void* workspace,
                                             std::size_t workspace_bytes, const void* beta,
                                             cudnnFilterDescriptor_t weight_shape, void* weight_gradient) {
  Convolution c;
  if (!fit(c, in_shape, weight_shape, convolution, out_shape)) return CUDNN_STATUS_BAD_PARAM;
  return queue_convolution("cudnnConvolutionBackwardFilter", handle, c, alpha, beta, in, weight_gradient, out_gradient,
                           workspace, workspace_bytes, [=] { backward_filter(c, weight_gradient, in, out_gradient); });
}

}  // extern "C"
