/// \file
/// What numbers a job calculates with. An option of the job, and what backends are made for.
#pragma once

namespace llmlaunch::trainer {

/// What convolutions and matrix products are made of: torch.autocast's types, and TF32. Weights, moments, what
/// gradients are kept in, sums and the loss are fp32 always.
enum class Precision {
  fp32,
  tf32,  ///< operands with 11 digits; NVIDIA GPUs from Ampere on
  bf16,  ///< operands with 8 digits
  fp16,  ///< operands and results of IEEE's half precision, up to 65504: gradients only of a loss that is scaled
};

inline const char* precision_name(Precision precision) {
  switch (precision) {
    case Precision::fp32: return "fp32";
    case Precision::tf32: return "tf32";
    case Precision::bf16: return "bf16";
    case Precision::fp16: return "fp16";
  }
  return "";
}

}  // namespace llmlaunch::trainer
