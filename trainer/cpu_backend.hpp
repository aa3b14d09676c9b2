/// \file
/// `Backend` on the CPU, by oneDNN. The same threads and inputs give the same bits.
#pragma once

#include <cstdint>
#include <memory>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"

namespace llmlaunch::trainer {

/// What products are made of; sums are fp32 always.
enum class CpuMath {
  fp32,
  bf16,           ///< bfloat16, by instructions for it
  emulated_bf16,  ///< the same numbers up to the order of additions, by rounding floats: slower than fp32
  emulated_fp16,  ///< half precision, by rounding floats, results too: slower than fp32
};
/// For a job that wants `precision` on this processor. `Errc::unsupported` for what only GPUs have.
Result<CpuMath> cpu_math(Precision precision);

/// `model` outlives the backend. `threads`: how many oneDNN uses, from 1; the thread that calls the backend is one of
/// them. Any batch size works, and each gets its own primitives, made when it is first seen. The backend's calls give
/// `Errc::invalid_argument` for a batch without images, of unequal sizes or with a label above 9,
/// `Errc::out_of_resources` for one that finds no memory, `Errc::unsupported` for what oneDNN cannot do on this
/// processor. One thread at a time.
Result<std::unique_ptr<Backend>> make_cpu_backend(const Model& model, const AdamWOptions& adamw,
                                                  const DropoutOptions& dropout, std::uint32_t threads,
                                                  CpuMath math = CpuMath::fp32);

}  // namespace llmlaunch::trainer
