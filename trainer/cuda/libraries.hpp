/// \file
/// NCCL, cuBLAS and cuDNN, opened when a GPU is asked for and not before: llmlaunch-train starts, and is pushed to
/// hosts as one file, where none of them is installed. The CUDA runtime is inside the program and opens the driver
/// itself. Calls go through tables with the libraries' own names and types: `nccl().ncclAllReduce(…)`.
#pragma once

#include <cublas_v2.h>
#include <cudnn.h>
#include <nccl.h>

#include <type_traits>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer::cuda {

#define LLMLAUNCH_NCCL_FUNCTIONS(X) \
  X(ncclGetVersion)                 \
  X(ncclGetUniqueId)                \
  X(ncclCommInitRankConfig)         \
  X(ncclCommGetAsyncError)          \
  X(ncclCommAbort)                  \
  X(ncclCommFinalize)               \
  X(ncclCommDestroy)                \
  X(ncclAllReduce)                  \
  X(ncclAllGather)                  \
  X(ncclBroadcast)                  \
  X(ncclGetErrorString)             \
  X(ncclGetLastError)

#define LLMLAUNCH_CUBLAS_FUNCTIONS(X) \
  X(cublasCreate_v2)                  \
  X(cublasDestroy_v2)                 \
  X(cublasSetStream_v2)               \
  X(cublasSetWorkspace_v2)            \
  X(cublasGetStatusString)

/// This one by its whole type: for C++ the header also has an older one of its name.
using CublasGemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                        const void*, const void*, cudaDataType, int, const void*, cudaDataType, int,
                                        const void*, void*, cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
static_assert(std::is_same_v<decltype(static_cast<CublasGemmEx>(&::cublasGemmEx)), CublasGemmEx>);

#define LLMLAUNCH_CUDNN_FUNCTIONS(X)                \
  X(cudnnCreate)                                    \
  X(cudnnDestroy)                                   \
  X(cudnnSetStream)                                 \
  X(cudnnGetErrorString)                            \
  X(cudnnCreateTensorDescriptor)                    \
  X(cudnnDestroyTensorDescriptor)                   \
  X(cudnnSetTensor4dDescriptor)                     \
  X(cudnnCreateFilterDescriptor)                    \
  X(cudnnDestroyFilterDescriptor)                   \
  X(cudnnSetFilter4dDescriptor)                     \
  X(cudnnCreateConvolutionDescriptor)               \
  X(cudnnDestroyConvolutionDescriptor)              \
  X(cudnnSetConvolution2dDescriptor)                \
  X(cudnnSetConvolutionMathType)                    \
  X(cudnnGetConvolutionForwardWorkspaceSize)        \
  X(cudnnGetConvolutionBackwardDataWorkspaceSize)   \
  X(cudnnGetConvolutionBackwardFilterWorkspaceSize) \
  X(cudnnConvolutionForward)                        \
  X(cudnnConvolutionBackwardData)                   \
  X(cudnnConvolutionBackwardFilter)

#define LLMLAUNCH_MEMBER(name) decltype(&::name) name = nullptr;
struct Nccl {
  LLMLAUNCH_NCCL_FUNCTIONS(LLMLAUNCH_MEMBER)
};
struct Cublas {
  LLMLAUNCH_CUBLAS_FUNCTIONS(LLMLAUNCH_MEMBER)
  CublasGemmEx cublasGemmEx = nullptr;
};
struct Cudnn {
  LLMLAUNCH_CUDNN_FUNCTIONS(LLMLAUNCH_MEMBER)
};
#undef LLMLAUNCH_MEMBER

/// Opens a library and finds every function, once per process. Looked for by its name as the dynamic linker does
/// (LD_LIBRARY_PATH, ldconfig), then below CUDA_HOME, CUDA_PATH and /usr/local/cuda, then where it was at build time.
/// `Errc::unsupported` says what the linker said, with a hint how to install it.
Result<const Nccl*> load_nccl();
Result<const Cublas*> load_cublas();
Result<const Cudnn*> load_cudnn();

/// For code that runs only after a successful load.
const Nccl& nccl();
const Cublas& cublas();
const Cudnn& cudnn();

}  // namespace llmlaunch::trainer::cuda
