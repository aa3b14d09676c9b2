/// \file
/// Collectives of GPU ranks: NCCL, its unique id handed out by the rendezvous.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <memory>

#include "rendezvous/client.hpp"
#include "trainer/comm.hpp"

namespace llmlaunch::trainer::cuda {

struct NcclOptions {
  std::chrono::milliseconds connect_timeout{300'000};  ///< until the communicator stands
  std::chrono::milliseconds timeout{1'800'000};        ///< for one wait; NCCL itself waits for ever
};

/// Connects all ranks of the client's world, on the current device. Collectives run on a stream of their own, in order
/// with `compute`. `client` and `compute` must outlive the result.
Result<std::unique_ptr<Comm>> make_nccl_comm(rendezvous::Client& client, cudaStream_t compute,
                                             const NcclOptions& options);

}  // namespace llmlaunch::trainer::cuda
