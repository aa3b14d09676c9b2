/// \file
/// `ResidentSteps` as one CUDA graph: gather the batch, forward, backward, the averages over ranks, AdamW. It is
/// captured once and launched for every step; what changes from step to step is read from arrays in the device's
/// memory, at a counter that the graph itself moves on. `CudaBackend` is its only user.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "trainer/backend.hpp"
#include "trainer/cuda/graph_streams.hpp"
#include "trainer/cuda/kernels.hpp"
#include "trainer/cuda/layers.hpp"

namespace llmlaunch::trainer::cuda {

/// AdamW's numbers for a step from 1, with the corrections in double on the host, as PyTorch.
AdamWStep adamw_numbers(const AdamWOptions& options, std::uint64_t step, double learning_rate);

/// What the steps work on; all of it outlives them.
struct StepGround {
  cudaStream_t stream = nullptr;
  const Model* model = nullptr;
  Precision precision = Precision::fp32;
  GraphStreams streams = GraphStreams::two;
  ConvolutionAlgorithms algorithms;
  AdamWOptions adamw;
  DropoutChoice dropout;
  AdamWArrays arrays;
  float* gradient = nullptr;
};

/// Copies the images to the device and captures a step. `Errc::unsupported` where something in it cannot be captured.
/// To be destroyed before the communicator whose collectives `plan.ready` starts.
Result<std::unique_ptr<ResidentSteps>> make_step_graph(const StepGround& ground, const ResidentPlan& plan);

}  // namespace llmlaunch::trainer::cuda
