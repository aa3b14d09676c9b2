// The loops between oneDNN's operations.
#include "trainer/cpu_kernels.hpp"

#include <cmath>

#include "tests/support/catch.hpp"
#include "trainer/random.hpp"

namespace trainer_cpu_kernels_test {

using namespace llmlaunch::trainer;

TEST_CASE("dropout keeps its share, scaled, by a mask that depends on seed, draw and place only") {
  const auto dropped = [](std::uint64_t seed, std::uint64_t draw) {
    std::vector<float> values(100'000, 3.0F);
    drop_out(values, 0.25F, seed, draw);
    return values;
  };
  const std::vector<float> values = dropped(1, 2);
  std::size_t kept = 0;
  for (const float value : values) {
    CHECK((value == 0.0F || value == 4.0F));
    if (value != 0) ++kept;
  }
  CHECK(std::abs(static_cast<double>(kept) - 75'000) < 5 * std::sqrt(100'000 * .25 * .75));
  CHECK(dropped(1, 2) == values);
  CHECK(dropped(2, 2) != values);
  CHECK(dropped(1, 3) != values);
  std::vector<float> few(10, 3.0F);
  drop_out(few, 0.25F, 1, 2);
  CHECK(few == std::vector<float>(values.begin(), values.begin() + 10));
}

TEST_CASE("dropout's mask is the one that the GPU's kernel is written to draw") {
  std::vector<float> values(64, 1.0F);
  drop_out(values, 0.5F, 9, 7);
  const std::uint64_t key = 9 * 0x9e3779b97f4a7c15ULL + 7 * 0xd1342543de82ef95ULL;
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(values[i] == (mixed(key ^ mixed(i)) >> 63U == 0 ? 0.0F : 2.0F));
  }
}

TEST_CASE("a gradient passes where there was output") {
  std::vector<float> gradient = {1, -2, 3, -4};
  relu_backward(gradient, std::vector<float>{0.5F, 0, 2, 1e-30F}, 2.0F);
  CHECK(gradient == std::vector<float>{2, 0, 6, -8});
}

TEST_CASE("the loss is minus the logarithm of the label's share, also of huge logits") {
  std::vector<float> logits(30, 0.0F);
  logits[10 + 3] = 1'000;  // sure of 3
  logits[20] = 2;
  logits[20 + 5] = 2;  // 0 and 5 alike: the first counts
  const std::vector<std::uint8_t> labels = {4, 3, 5};
  const BatchResult result = softmax_loss(logits, labels);
  const double last = std::log(8 + 2 * std::exp(2.0)) - 2;
  CHECK(result.loss_sum == Approx(std::log(10.0) + last).epsilon(1e-12));
  CHECK(result.correct == 1);
  CHECK(result.count == 3);

  std::vector<float> gradient(30);
  softmax_loss_backward(gradient, logits, labels);
  CHECK(gradient[0] == Approx(0.1 / 3));
  CHECK(gradient[4] == Approx((0.1 - 1) / 3));
  CHECK(gradient[13] == Approx(0).margin(1e-12));
  CHECK(gradient[25] == Approx((std::exp(-last) - 1) / 3));
}

TEST_CASE("AdamW's step is its formula, in double") {
  const AdamWOptions options{.learning_rate = 0.01, .weight_decay = 0.1, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-6};
  std::vector<float> p = {1, -2, 0.5F}, m(3, 0.0F), v(3, 0.0F);
  double q[] = {1, -2, 0.5}, first[3] = {}, second[3] = {};
  for (std::uint64_t step = 1; step <= 5; ++step) {
    const std::vector<float> gradient = {0.3F * static_cast<float>(step), -1, 0};
    adamw_step(p, m, v, gradient, options, step);
    for (std::size_t i = 0; i < 3; ++i) {
      const double g = gradient[i];
      q[i] *= 1 - 0.01 * 0.1;
      first[i] = 0.8 * first[i] + 0.2 * g;
      second[i] = 0.99 * second[i] + 0.01 * g * g;
      const double t = static_cast<double>(step);
      q[i] -= 0.01 / (1 - std::pow(0.8, t)) * first[i] / (std::sqrt(second[i] / (1 - std::pow(0.99, t))) + 1e-6);
      CHECK(p[i] == Approx(q[i]).epsilon(1e-6));
    }
  }
  // No gradient, no momentum: only the decay acts.
  CHECK(p[2] == Approx(0.5 * std::pow(0.999, 5)).epsilon(1e-6));
}

}  // namespace trainer_cpu_kernels_test
