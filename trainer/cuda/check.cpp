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

std::string hint_for(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return "the GPU's memory is full: a smaller --per_device_train_batch_size needs less";
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

Errc condition_of(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation: return Errc::out_of_resources;
    case cudaErrorNotSupported:
    case cudaErrorStreamCaptureUnsupported: return Errc::unsupported;
    default: return Errc::io;
  }
}

}  // namespace

void fail_cuda(cudaError_t code, const char* expression, const char* file, int line) {
  throw DeviceError(make_error(
      condition_of(code),
      fmt::format("{}: {}: {}", place(expression, file, line), cudaGetErrorName(code), cudaGetErrorString(code)),
      identity_text(), hint_for(code)));
}

void fail_cublas(cublasStatus_t code, const char* expression, const char* file, int line) {
  throw DeviceError(
      make_error(Errc::io, fmt::format("{}: {}", place(expression, file, line), cublas().cublasGetStatusString(code)),
                 identity_text()));
}

void fail_cudnn(cudnnStatus_t code, const char* expression, const char* file, int line) {
  throw DeviceError(make_error(Errc::io,
                               fmt::format("{}: {}", place(expression, file, line), cudnn().cudnnGetErrorString(code)),
                               identity_text()));
}

Error nccl_error(ncclResult_t code, ncclComm_t comm, const char* expression, const char* file, int line) {
  std::string what = fmt::format("{}: {}", place(expression, file, line), nccl().ncclGetErrorString(code));
  if (const char* last = nccl().ncclGetLastError(comm); last != nullptr && *last != '\0') {
    what += fmt::format(": {}", last);
  }
  Errc condition = Errc::io;
  std::string hint;
  if (code == ncclRemoteError) {
    condition = Errc::closed;  // somebody else failed first
  } else if (code == ncclInvalidUsage) {
    condition = Errc::invalid_argument;
    hint = "two ranks of one host may have the same GPU: give each its own by CUDA_VISIBLE_DEVICES or fewer slots";
  } else if (code == ncclSystemError) {
    hint = "NCCL_DEBUG=INFO shows NCCL's own messages; NCCL_SOCKET_IFNAME chooses the network interface";
  }
  return make_error(condition, what, identity_text(), hint);
}

}  // namespace llmlaunch::trainer::cuda
