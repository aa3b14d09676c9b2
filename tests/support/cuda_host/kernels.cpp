// trainer/cuda/kernels.cu for the host's compiler: what nvcc knows by itself are names of block.hpp here. Memory that a
// block's threads share belongs to the host thread that runs them all; it keeps what the block before left, and is not
// NaN.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

#include "tests/support/cuda_host/block.hpp"

#undef __shared__
#define __shared__ static thread_local
#define threadIdx ::cuda_host::place.thread
#define blockIdx ::cuda_host::place.block
#define blockDim ::cuda_host::place.threads
#define gridDim ::cuda_host::place.blocks
#define __syncthreads ::cuda_host::barrier

#include "trainer/cuda/kernels.cu"
