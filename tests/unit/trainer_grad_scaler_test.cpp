// The loss's scale as torch.amp.GradScaler's: the numbers are those of PyTorch 2.15's state_dict.
#include "trainer/grad_scaler.hpp"

#include <cmath>
#include <limits>

#include "tests/support/catch.hpp"

namespace trainer_grad_scaler_test {

using namespace llmlaunch::trainer;

TEST_CASE("a loss is scaled by 65536 at first, and its gradient by the reciprocal") {
  LossScale scale;
  CHECK(scale == LossScale{.factor = 65536, .good_steps = 0, .skipped = 0});
  CHECK(unscaling(scale) == 1.0F / 65536);
  scale.factor = 3;
  CHECK(unscaling(scale) == static_cast<float>(1.0 / 3));
}

TEST_CASE("a gradient that overflows halves the scale, and good steps are counted anew") {
  LossScale scale;
  note_step(scale, true);
  note_step(scale, true);
  CHECK(scale == LossScale{.factor = 65536, .good_steps = 2, .skipped = 0});
  note_step(scale, false);
  CHECK(scale == LossScale{.factor = 32768, .good_steps = 0, .skipped = 1});
  note_step(scale, false);
  CHECK(scale == LossScale{.factor = 16384, .good_steps = 0, .skipped = 2});
}

TEST_CASE("the 2000th good step in a row doubles the scale") {
  LossScale scale;
  for (int step = 1; step < 2000; ++step) note_step(scale, true);
  CHECK(scale == LossScale{.factor = 65536, .good_steps = 1999, .skipped = 0});
  note_step(scale, true);
  CHECK(scale == LossScale{.factor = 131072, .good_steps = 0, .skipped = 0});
}

TEST_CASE("the scale never becomes infinite, nor so small that its reciprocal would") {
  LossScale scale{.factor = std::ldexp(1.0F, 127), .good_steps = kGrowthInterval - 1, .skipped = 0};
  note_step(scale, true);
  CHECK(scale == LossScale{.factor = std::ldexp(1.0F, 127), .good_steps = 0, .skipped = 0});
  for (int step = 0; step < 300; ++step) note_step(scale, false);
  CHECK(scale.factor == std::numeric_limits<float>::min());
  CHECK(std::isfinite(unscaling(scale)));
}

}  // namespace trainer_grad_scaler_test
