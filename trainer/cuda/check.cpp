// The texts of failed GPU calls; see check.hpp.
#include "trainer/cuda/check.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace llmlaunch::trainer::cuda {
namespace {

Identity& identity() {
  static Identity value;
  return value;
}

std::string place(const char* expression, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  return fmt::format("{} ({}:{})", expression, slash == nullptr ? file : slash + 1, line);
}

constexpr const char* kMemoryIsFull = "the GPU's memory is full: a smaller --per_device_train_batch_size needs less";

std::string hint_for(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation: return kMemoryIsFull;
    case cudaErrorInsufficientDriver: return "the driver is older than this build's CUDA runtime: update it";
    case cudaErrorNoKernelImageForDevice: return "rebuild with CMAKE_CUDA_ARCHITECTURES set to this GPU's";
    case cudaErrorECCUncorrectable:
      return "the GPU has a memory fault: look at nvidia-smi -q and take it out of service";
    default: return {};
  }
}

}  // namespace

void set_identity(Identity value) {
  identity() = std::move(value);
}

std::string identity_text() {
  return fmt::format("rank {} on {}, device {}", identity().rank, identity().host, identity().device);
}

namespace {

/// The device or its software failed: nothing that this program asked for wrongly.
const std::error_code kDeviceFailed = std::make_error_code(std::errc::no_such_device);

std::error_code condition_of(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation: return Errc::out_of_resources;
    case cudaErrorNotSupported:
    case cudaErrorStreamCaptureUnsupported: return Errc::unsupported;
    default: return kDeviceFailed;
  }
}

Error device_error(std::error_code condition, std::string what, std::string hint) {
  return {.code = condition, .what = std::move(what), .where = identity_text(), .hint = std::move(hint)};
}

[[noreturn]] void fail_library(bool is_memory, std::string what) {
  throw DeviceError(is_memory ? device_error(Errc::out_of_resources, std::move(what), kMemoryIsFull)
                              : device_error(kDeviceFailed, std::move(what), {}));
}

}  // namespace

void fail_cuda(cudaError_t code, const char* expression, const char* file, int line) {
  throw DeviceError(device_error(
      condition_of(code),
      fmt::format("{}: {}: {}", place(expression, file, line), cudaGetErrorName(code), cudaGetErrorString(code)),
      hint_for(code)));
}

void fail_cublas(cublasStatus_t code, const char* expression, const char* file, int line) {
  fail_library(code == CUBLAS_STATUS_ALLOC_FAILED,
               fmt::format("{}: {}", place(expression, file, line), cublas().cublasGetStatusString(code)));
}

void fail_cudnn(cudnnStatus_t code, const char* expression, const char* file, int line) {
  fail_library(code == CUDNN_STATUS_ALLOC_FAILED || code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED,
               fmt::format("{}: {}", place(expression, file, line), cudnn().cudnnGetErrorString(code)));
}

Error nccl_error(ncclResult_t code, ncclComm_t comm, const char* expression, const char* file, int line) {
  std::string what = fmt::format("{}: {}", place(expression, file, line), nccl().ncclGetErrorString(code));
  if (const char* last = nccl().ncclGetLastError(comm); last != nullptr && *last != '\0') {
    what += fmt::format(": {}", last);
  }
  std::error_code condition = kDeviceFailed;
  std::string hint;
  if (code == ncclRemoteError) {
    condition = Errc::closed;  // somebody else failed first
  } else if (code == ncclInvalidUsage) {
    condition = Errc::invalid_argument;
    hint = "two ranks of one host may have the same GPU: give each its own by CUDA_VISIBLE_DEVICES or fewer slots";
  } else if (code == ncclSystemError) {
    hint = "NCCL_DEBUG=INFO shows NCCL's own messages; NCCL_SOCKET_IFNAME chooses the network interface";
  }
  return device_error(condition, std::move(what), std::move(hint));
}

}  // namespace llmlaunch::trainer::cuda
