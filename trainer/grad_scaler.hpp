/// \file
/// What the loss of a job in half precision is scaled by, so that its gradients are neither lost below 2^-24 nor above
/// 65504: the arithmetic of torch.amp.GradScaler with its defaults. Pure numbers, the same on every rank, because each
/// sees the same averaged gradient. Used by the training loop; checkpoints keep it.
#pragma once

#include <cstdint>

namespace llmlaunch::trainer {

struct LossScale {
  float factor = 65536;
  std::uint32_t good_steps = 0;  ///< since the factor last changed
  std::uint64_t skipped = 0;     ///< steps of the whole run whose gradient overflowed: neither the optimizer nor the
                                 ///< learning rate counts them
  friend bool operator==(const LossScale&, const LossScale&) = default;
};

/// Good steps in a row after which the factor is doubled.
inline constexpr std::uint32_t kGrowthInterval = 2000;

/// What a gradient of the scaled loss is multiplied by.
float unscaling(const LossScale& scale);

/// The factor after a step whose gradient was finite, and which was taken, or was not, and was skipped.
void note_step(LossScale& scale, bool finite);

}  // namespace llmlaunch::trainer
