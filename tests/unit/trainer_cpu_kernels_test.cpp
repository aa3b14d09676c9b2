// The loops between oneDNN's operations.
#include "trainer/cpu_kernels.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/catch.hpp"
#include "trainer/philox.hpp"

namespace trainer_cpu_kernels_test {

using namespace llmlaunch::trainer;

TEST_CASE("dropout keeps its share, scaled") {
  std::vector<float> values(100'000, 3.0F);
  drop_out(values, 1'000, 0.25F, {.seed = 1, .layer = 0, .samples = {}});
  std::size_t kept = 0;
  for (const float value : values) {
    CHECK((value == 0.0F || value == 4.0F));
    if (value != 0) ++kept;
  }
  CHECK(std::abs(static_cast<double>(kept) - 75'000) < 5 * std::sqrt(100'000 * .25 * .75));
}

TEST_CASE("a sample's mask is that of its number, whatever stands beside it") {
  constexpr std::size_t kFeatures = 132;  // not a multiple of what is drawn at once
  const auto masks = [](std::size_t rows, SampleNumbers samples) {
    std::vector<float> values(rows * kFeatures, 1.0F);
    drop_out(values, kFeatures, 0.5F, {.seed = 9, .layer = 1, .samples = samples});
    return values;
  };
  const std::vector<float> six = masks(6, {.first = 3, .stride = 2});  // samples 3, 5, 7, 9, 11, 13
  for (std::size_t row = 0; row < 6; ++row) {
    const std::vector<float> one = masks(1, {.first = 3 + 2 * row});
    CHECK(std::equal(one.begin(), one.end(), six.begin() + static_cast<std::ptrdiff_t>(row * kFeatures)));
    for (std::size_t i = 0; i < kFeatures; ++i) {
      const auto block = mask_block({.seed = 9, .sample = 3 + 2 * row, .layer = 1}, static_cast<std::uint32_t>(i / 4));
      CHECK(one[i] == (is_dropped(block.word[i % 4], 0.5F) ? 0.0F : 2.0F));
    }
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
  softmax_loss_backward(gradient, logits, labels, 1);
  CHECK(gradient[0] == Approx(0.1 / 3));
  CHECK(gradient[4] == Approx((0.1 - 1) / 3));
  CHECK(gradient[13] == Approx(0).margin(1e-12));
  CHECK(gradient[25] == Approx((std::exp(-last) - 1) / 3));
  std::vector<float> half(30);
  softmax_loss_backward(half, logits, labels, 0.5F);
  CHECK(half[4] == Approx(gradient[4] / 2));
}

TEST_CASE("AdamW's step is its formula, in double") {
  const AdamWOptions options{.weight_decay = 0.1, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-6};
  std::vector<float> p = {1, -2, 0.5F}, m(3, 0.0F), v(3, 0.0F);
  double q[] = {1, -2, 0.5}, first[3] = {}, second[3] = {};
  for (std::uint64_t step = 1; step <= 5; ++step) {
    const std::vector<float> gradient = {0.3F * static_cast<float>(step), -1, 0};
    adamw_step(p, m, v, gradient, options, 0.01, step);
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

TEST_CASE("a float becomes the nearest number of bfloat16, the even one of equals") {
  const auto of_bits = [](std::uint32_t bits) { return std::bit_cast<float>(bits); };
  const std::vector<std::pair<std::uint32_t, std::uint32_t>> rows = {
      {0x3f800000, 0x3f800000},  // 1
      {0x3f807fff, 0x3f800000},  // below the middle
      {0x3f808000, 0x3f800000},  // the middle, to the even one
      {0x3f808001, 0x3f810000},  // above it
      {0x3f818000, 0x3f820000},  // the middle, to the even one above
      {0xbf818000, 0xbf820000},  // with a sign
      {0x3fffffff, 0x40000000},  // over a power of two
      {0x7f7fffff, 0x7f800000},  // the largest float is infinity there
      {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}, {0x00000001, 0x00000000},  // the smallest
      {0x00018000, 0x00020000},  // what is below the normal numbers is rounded alike
      {0x80000000, 0x80000000},
  };
  for (const auto& [from, to] : rows) {
    std::vector<float> value = {of_bits(from)};
    round_to_bf16(value);
    CAPTURE(from);
    CHECK(std::bit_cast<std::uint32_t>(value[0]) == to);
  }
  for (const std::uint32_t none : {0x7f800001U, 0x7fffffffU, 0xff800001U, 0x7fc00000U}) {
    std::vector<float> value = {of_bits(none)};
    round_to_bf16(value);
    CHECK(std::isnan(value[0]));
  }
}

/// The number that 16 bits are in IEEE's half precision.
float half_of(std::uint32_t bits) {
  const auto exponent = static_cast<int>(bits >> 10U & 0x1fU);
  const auto fraction = static_cast<float>(bits & 0x3ffU);
  const float size = exponent == 0    ? std::ldexp(fraction, -24)
                     : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000U) == 0 ? size : -size;
}

TEST_CASE("a float becomes the nearest number of half precision, the even one of equals") {
  const auto rounded = [](float from) {
    std::vector<float> value = {from};
    round_to_fp16(value);
    return value[0];
  };
  const auto same = [](float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); };
  std::uint32_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float half = half_of(bits);
    if (std::isnan(half)) {
      wrong += std::isnan(rounded(half)) ? 0 : 1;
      continue;
    }
    wrong += same(rounded(half), half) ? 0 : 1;
    if (std::isinf(half)) continue;
    // The next one away from 0; infinity stands where 65536 would.
    const float next = half_of(bits + 1);
    const float beyond = std::isinf(next) ? std::copysign(65536.0F, half) : next;
    const float middle = half + (beyond - half) / 2;
    wrong += same(rounded(middle), bits % 2 == 0 ? half : next) ? 0 : 1;
    wrong += same(rounded(std::nextafter(middle, half)), half) ? 0 : 1;
    wrong += same(rounded(std::nextafter(middle, beyond)), next) ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(same(rounded(std::bit_cast<float>(0x00000001U)), 0.0F));
  CHECK(same(rounded(std::bit_cast<float>(0x80000001U)), -0.0F));
  CHECK(std::isinf(rounded(3e38F)));
  CHECK(std::isnan(rounded(std::bit_cast<float>(0x7f800001U))));
}

TEST_CASE("a gradient is unscaled and measured at once") {
  std::vector<float> values = {6, -8, 0};
  CHECK(scale_by(values, 0.5F) == 5);
  CHECK(values == std::vector<float>{3, -4, 0});
  values = {1, std::numeric_limits<float>::infinity(), 1};
  CHECK_FALSE(std::isfinite(scale_by(values, 1.0F / 65536)));
  values = {1, std::numeric_limits<float>::quiet_NaN(), 1};
  CHECK_FALSE(std::isfinite(scale_by(values, 1.0F / 65536)));
  values = {std::numeric_limits<float>::max(), std::numeric_limits<float>::max()};
  CHECK(std::isfinite(scale_by(values, 1)));
}

}  // namespace trainer_cpu_kernels_test
