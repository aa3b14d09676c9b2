/// \file
/// How kernels.cu starts its kernels. nvcc makes a launch of it; another compiler finds `cuda_host::launch`, which
/// whoever includes kernels.cu there has declared before: the tests' emulated device.
#pragma once

#include <cuda_runtime_api.h>

namespace llmlaunch::trainer::cuda {

/// Queues `blocks` × `threads` threads on the stream. Errors are for cudaGetLastError.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, cudaStream_t stream,
            const Arguments&... arguments) {
#ifdef __CUDACC__
  kernel<<<blocks, threads, 0, stream>>>(arguments...);
#else
  cuda_host::launch(kernel, blocks, threads, stream, arguments...);
#endif
}

}  // namespace llmlaunch::trainer::cuda
