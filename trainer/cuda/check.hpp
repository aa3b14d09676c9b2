/// \file
/// CUDA_CHECK and its sisters: a call that failed becomes a `DeviceError` that says which rank on which host and
/// device, which expression, and the library's own words. Inside trainer/cuda/ only; its border functions turn it into
/// a result.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "rendezvous/base/error.hpp"
#include "rendezvous/base/result.hpp"
#include "trainer/cuda/libraries.hpp"

namespace llmlaunch::trainer::cuda {

/// Whose calls these are; set once, before the first check.
struct Identity {
  std::uint32_t rank = 0;
  std::string host;
  int device = 0;
};
void set_identity(Identity identity);
/// "rank 3 on gpu01, device 2"
std::string identity_text();

class DeviceError : public std::runtime_error {
 public:
  explicit DeviceError(Error error) : std::runtime_error(to_string(error)), error_(std::move(error)) {}
  const Error& error() const { return error_; }

 private:
  Error error_;
};

[[noreturn]] void fail_cuda(cudaError_t code, const char* expression, const char* file, int line);
[[noreturn]] void fail_cublas(cublasStatus_t code, const char* expression, const char* file, int line);
[[noreturn]] void fail_cudnn(cudnnStatus_t code, const char* expression, const char* file, int line);
/// `comm` may be null; with it NCCL's last error text is added.
Error nccl_error(ncclResult_t code, ncclComm_t comm, const char* expression, const char* file, int line);

#define CUDA_CHECK(expression)                                                       \
  do {                                                                               \
    if (const cudaError_t code_ = (expression); code_ != cudaSuccess) {              \
      ::llmlaunch::trainer::cuda::fail_cuda(code_, #expression, __FILE__, __LINE__); \
    }                                                                                \
  } while (false)

#define CUBLAS_CHECK(function, ...)                                                                       \
  do {                                                                                                    \
    const cublasStatus_t code_ = ::llmlaunch::trainer::cuda::cublas().function(__VA_ARGS__);              \
    if (code_ != CUBLAS_STATUS_SUCCESS) {                                                                 \
      ::llmlaunch::trainer::cuda::fail_cublas(code_, #function "(" #__VA_ARGS__ ")", __FILE__, __LINE__); \
    }                                                                                                     \
  } while (false)

#define CUDNN_CHECK(function, ...)                                                                       \
  do {                                                                                                   \
    const cudnnStatus_t code_ = ::llmlaunch::trainer::cuda::cudnn().function(__VA_ARGS__);               \
    if (code_ != CUDNN_STATUS_SUCCESS) {                                                                 \
      ::llmlaunch::trainer::cuda::fail_cudnn(code_, #function "(" #__VA_ARGS__ ")", __FILE__, __LINE__); \
    }                                                                                                    \
  } while (false)

/// Runs `function` and turns what the checks throw into a result.
template <class Function>
auto without_exceptions(Function&& function) -> Result<decltype(function())> {
  try {
    if constexpr (std::is_void_v<decltype(function())>) {
      function();
      return ok;
    } else {
      return function();
    }
  } catch (const DeviceError& e) {
    return e.error();
  }
}

}  // namespace llmlaunch::trainer::cuda
