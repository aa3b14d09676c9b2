/// \file
/// A kernel's grid on the host: block after block, thread after thread. Threads of a kernel that waits at a barrier are
/// fibers, each with a stack of its own, so that all of them come to the barrier before one goes on. Which thread is
/// first is drawn anew between two barriers, and shows a barrier that is missing. No warps: what needs them cannot be
/// compiled.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <tuple>
#include <utility>

namespace cuda_host {

/// Where a thread of a kernel is.
struct Place {
  uint3 thread{0, 0, 0};
  uint3 block{0, 0, 0};
  dim3 threads{1, 1, 1};
  dim3 blocks{1, 1, 1};
};
extern constinit thread_local Place place;

/// A kernel with its arguments: its threads from `first` on, `count` of them, of the block that `place` says, the last
/// one first if `is_backwards`.
using Threads = std::function<void(unsigned first, unsigned count, bool is_backwards)>;

/// Queues the grid on the stream. An error is the thread's last one, as after <<<>>>.
/// `kernel` tells one from another.
void queue_grid(const void* kernel, unsigned blocks, unsigned threads, cudaStream_t stream, Threads run);

/// What <<<blocks, threads, 0, stream>>> is to nvcc; trainer/cuda/launch.cuh calls it.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, cudaStream_t stream,
            const Arguments&... arguments) {
  queue_grid(reinterpret_cast<const void*>(kernel), blocks, threads, stream,
             [kernel, given = std::tuple<Parameters...>(arguments...)](unsigned first, unsigned count, bool backwards) {
               for (unsigned i = 0; i < count; ++i) {
                 place.thread.x = first + (backwards ? count - 1 - i : i);
                 std::apply(kernel, given);
               }
             });
}

/// __syncthreads.
void barrier();

}  // namespace cuda_host
