// cuBLAS's functions that trainer/cuda/ calls: handles, and cublasGemmEx of floats or halves into floats.
#include <cublas_v2.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "tests/support/cuda_host/memory.hpp"
#include "tests/support/cuda_host/operands.hpp"
#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

using namespace cuda_host;

namespace {

/// Values from the first to the last of a column-major matrix.
std::size_t extent(std::size_t rows, std::size_t columns, std::size_t step) {
  return columns == 0 ? 0 : (columns - 1) * step + rows;
}

bool rounding_of(cublasComputeType_t type, Rounding& rounding) {
  switch (type) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC: rounding = Rounding::none; return true;
    case CUBLAS_COMPUTE_32F_FAST_TF32: rounding = Rounding::tf32; return true;
    case CUBLAS_COMPUTE_32F_FAST_16BF: rounding = Rounding::bf16; return true;
    default: return false;
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (const int code = injected_failure("cublasCreate"); code != 0) return static_cast<cublasStatus_t>(code);
  const Lock lock(device_mutex());
  if (refuse_unsafe_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;  // it allocates
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

/// Takes the workspace away, too, as the real one's documentation says.
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  *handle = {.stream = stream};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  if (!is_device_memory(workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS of another kind";
  }
}

}  // extern "C"

/// Everything is column-major: value (i, j) lies at i + j * ld.
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                            cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (const int code = injected_failure("cublasGemmEx"); code != 0) return static_cast<cublasStatus_t>(code);
  Rounding rounding = Rounding::none;
  const bool is_half = type_a == CUDA_R_16F;
  if (!rounding_of(compute, rounding) || type_a != type_b || type_c != CUDA_R_32F ||
      (!is_half && type_a != CUDA_R_32F) || (is_half && compute != CUBLAS_COMPUTE_32F) ||
      *static_cast<const float*>(alpha) != 1.0F || *static_cast<const float*>(beta) != 0.0F) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool ta = transa != CUBLAS_OP_N;
  const bool tb = transb != CUBLAS_OP_N;
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) ||
      ldc < std::max(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto rows = static_cast<std::size_t>(m);
  const auto columns = static_cast<std::size_t>(n);
  const auto deep = static_cast<std::size_t>(k);
  const auto step_a = static_cast<std::size_t>(lda);
  const auto step_b = static_cast<std::size_t>(ldb);
  const auto step_c = static_cast<std::size_t>(ldc);
  const std::size_t size = is_half ? sizeof(__half) : sizeof(float);
  const std::size_t values_a = ta ? extent(deep, rows, step_a) : extent(rows, deep, step_a);
  const std::size_t values_b = tb ? extent(columns, deep, step_b) : extent(deep, columns, step_b);
  // The real one finds out on the device.
  if (!is_device_memory(a, values_a * size) || !is_device_memory(b, values_b * size) ||
      !is_device_memory(c, extent(rows, columns, step_c) * sizeof(float))) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const Lock lock(device_mutex());
  CUstream_st* const stream = find_stream(handle->stream);
  if (stream == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  // It would allocate one, as a node of the graph.
  if (handle->workspace == nullptr && stream->capture != nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
  char kind[120];
  std::snprintf(kind, sizeof kind, "cublasGemmEx of %d, %d, %d, %d%d, type %d, compute %d", m, n, k, transa, transb,
                type_a, compute);
  if (refuse_first_use(*stream, kind) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  const cublasContext given = *handle;
  const auto product = [=]() -> std::function<bool()> {
    if (given.workspace != nullptr) scribble(given.workspace, given.workspace_bytes);
    const std::vector<float> left = read_operand(a, is_half, values_a, rounding);
    const std::vector<float> right = read_operand(b, is_half, values_b, rounding);
    // The rows of what multiply() writes are the columns here: it gets the transposed product.
    multiply(static_cast<float*>(c), step_c, {right.data(), tb ? 1 : step_b, tb ? step_b : 1},
             {left.data(), ta ? 1 : step_a, ta ? step_a : 1}, columns, rows, deep, false);
    return nullptr;
  };
  return queue(*stream, {"cublasGemmEx", product}) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                  : CUBLAS_STATUS_EXECUTION_FAILED;
}
