// The tables of trainer/cuda/libraries.hpp with the emulation's functions, instead of libraries that are opened.
#include "trainer/cuda/libraries.hpp"

namespace llmlaunch::trainer::cuda {

#define LLMLAUNCH_TAKE(name) table.name = &::name;

const Nccl& nccl() {
  static const Nccl kTable = [] {
    Nccl table;
    LLMLAUNCH_NCCL_FUNCTIONS(LLMLAUNCH_TAKE)
    return table;
  }();
  return kTable;
}

const Cublas& cublas() {
  static const Cublas kTable = [] {
    Cublas table;
    LLMLAUNCH_CUBLAS_FUNCTIONS(LLMLAUNCH_TAKE)
    table.cublasGemmEx = static_cast<CublasGemmEx>(&::cublasGemmEx);
    return table;
  }();
  return kTable;
}

const Cudnn& cudnn() {
  static const Cudnn kTable = [] {
    Cudnn table;
    LLMLAUNCH_CUDNN_FUNCTIONS(LLMLAUNCH_TAKE)
    return table;
  }();
  return kTable;
}

Result<const Nccl*> load_nccl() {
  return &nccl();
}

Result<const Cublas*> load_cublas() {
  return &cublas();
}

Result<const Cudnn*> load_cudnn() {
  return &cudnn();
}

}  // namespace llmlaunch::trainer::cuda
