/// \file
/// The GPU's half of device.hpp: whether a GPU can be used, and backend and communicator on it.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <span>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/cuda/convolution_algorithms.hpp"
#include "trainer/cuda/graph_streams.hpp"
#include "trainer/device.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer::cuda {

/// Whether this process can train on a GPU: driver, device, NCCL, cuBLAS and cuDNN are there. Gives NCCL's version;
/// `Errc::unsupported` says what is missing.
Result<int> probe();

/// A backend on the GPU with number `local_rank`, or on the only visible one. `model` outlives it. `Errc::unsupported`
/// when there are fewer.
Result<std::unique_ptr<Backend>> make_cuda_backend(const World& world, const Model& model, const AdamWOptions& adamw,
                                                   const DropoutOptions& dropout, Precision precision = Precision::fp32,
                                                   GraphStreams graph_streams = GraphStreams::two,
                                                   const ConvolutionAlgorithms& algorithms = {});

/// Values of a backend's flat arrays, for a look at them. Equal sizes.
Result<void> copy_to_host(std::span<float> host, std::span<const float> device);

/// The same with the communicator for the world: NCCL, or none for one process. Only after a successful `probe`.
Result<Engine> make_engine(World& world, const Model& model, const AdamWOptions& adamw, const DropoutOptions& dropout,
                           Precision precision, GraphStreams graph_streams, const ConvolutionAlgorithms& algorithms,
                           std::chrono::milliseconds collective_timeout);

}  // namespace llmlaunch::trainer::cuda
