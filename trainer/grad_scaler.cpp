// The rules of the loss's scale. Called by the training loop after each step.
#include "trainer/grad_scaler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llmlaunch::trainer {
namespace {

/// PyTorch has no limit, and after 149 halvings a scale of 0, which makes every loss 0. Here it stops while its
/// reciprocal is a number.
constexpr float kSmallest = std::numeric_limits<float>::min();

}  // namespace

float unscaling(const LossScale& scale) {
  return static_cast<float>(1 / static_cast<double>(scale.factor));
}

void note_step(LossScale& scale, bool finite) {
  if (!finite) {
    ++scale.skipped;
    scale.good_steps = 0;
    scale.factor = std::max(kSmallest, scale.factor / 2);
    return;
  }
  if (++scale.good_steps < kGrowthInterval) return;
  scale.good_steps = 0;
  if (const float doubled = scale.factor * 2; std::isfinite(doubled)) scale.factor = doubled;
}

}  // namespace llmlaunch::trainer
