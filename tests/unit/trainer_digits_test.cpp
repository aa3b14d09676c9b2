// The digits that the trainer draws: always the same, too hard for a linear model, easy for BasicNet.
#include "trainer/digits.hpp"

#include <zlib.h>

#include <array>
#include <cmath>
#include <numeric>

#include "tests/support/catch.hpp"
#include "trainer/cpu_backend.hpp"
#include "trainer/init.hpp"
#include "trainer/options.hpp"
#include "trainer/sampler.hpp"

namespace trainer_digits_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

/// What a job without --data_dir trains and is tested on.
const Dataset& train_set() {
  static const Dataset kSet = draw_digits(kDrawnTrainSamples, 1);
  return kSet;
}
const Dataset& test_set() {
  static const Dataset kSet = draw_digits(kDrawnEvalSamples, 2);
  return kSet;
}

std::vector<std::uint32_t> all_of(const Dataset& set) {
  std::vector<std::uint32_t> positions(set.count());
  std::iota(positions.begin(), positions.end(), std::uint32_t{0});
  return positions;
}

struct Images {
  Images(const Dataset& from, std::span<const std::uint32_t> positions)
      : values(positions.size() * kImageValues), labels(positions.size()) {
    fill_batch(from, positions, values, labels);
  }
  std::vector<float> values;
  std::vector<std::uint8_t> labels;
};

/// Multinomial logistic regression on the pixels, by Adam.
class LinearModel {
 public:
  std::array<float, 10> logits(const float* image) const {
    std::array<float, 10> result;
    for (std::size_t c = 0; c < 10; ++c) {
      const float* weights = &weights_[c * kRow];
      // Eight sums at a time, so that the compiler may add side by side.
      std::array<float, 8> sums{};
      for (std::size_t k = 0; k < kImageValues; ++k) sums[k % 8] += weights[k] * image[k];
      result[c] = std::accumulate(sums.begin(), sums.end(), weights[kImageValues]);
    }
    return result;
  }

  void learn(const Images& batch) {
    std::vector<float> gradient(weights_.size(), 0.0F);
    const float scale = 1 / static_cast<float>(batch.labels.size());
    for (std::size_t b = 0; b < batch.labels.size(); ++b) {
      const float* image = &batch.values[b * kImageValues];
      std::array<float, 10> slope = logits(image);
      const float largest = *std::max_element(slope.begin(), slope.end());
      for (float& value : slope) value = std::exp(value - largest);
      const float sum = std::accumulate(slope.begin(), slope.end(), 0.0F);
      for (std::size_t c = 0; c < 10; ++c) {
        const float error = (slope[c] / sum - (c == batch.labels[b] ? 1.0F : 0.0F)) * scale;
        for (std::size_t k = 0; k < kImageValues; ++k) gradient[c * kRow + k] += error * image[k];
        gradient[c * kRow + kImageValues] += error;
      }
    }
    step(gradient);
  }

  double accuracy(const Images& images) const {
    std::size_t right = 0;
    for (std::size_t i = 0; i < images.labels.size(); ++i) {
      const auto scores = logits(&images.values[i * kImageValues]);
      if (std::max_element(scores.begin(), scores.end()) - scores.begin() == images.labels[i]) ++right;
    }
    return 100.0 * static_cast<double>(right) / static_cast<double>(images.labels.size());
  }

 private:
  static constexpr std::size_t kRow = kImageValues + 1;

  void step(const std::vector<float>& gradient) {
    ++steps_;
    const float rate = 1e-3F * std::sqrt(1 - std::pow(.999F, steps_)) / (1 - std::pow(.9F, steps_));
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      first_[i] += .1F * (gradient[i] - first_[i]);
      second_[i] += .001F * (gradient[i] * gradient[i] - second_[i]);
      weights_[i] -= rate * first_[i] / (std::sqrt(second_[i]) + 1e-8F);
    }
  }

  std::vector<float> weights_ = std::vector<float>(10 * kRow, 0.0F);
  std::vector<float> first_ = weights_, second_ = weights_;
  float steps_ = 0;
};

}  // namespace

TEST_CASE("the drawn digits are these bytes, on every machine") {
  const Dataset& set = test_set();
  REQUIRE(set.images.size() == kDrawnEvalSamples * kImageValues);
  CHECK(crc32(0, set.images.data(), static_cast<uInt>(set.images.size())) == 0x8589d7af);
}

TEST_CASE("classes come in turn, a longer set begins with the shorter, and seeds differ") {
  const Dataset ten = draw_digits(10, 7);
  CHECK(ten.labels == std::vector<std::uint8_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  Dataset more = draw_digits(25, 7);
  more.keep_first(10);
  CHECK(more.images == ten.images);
  CHECK(draw_digits(10, 8).images != ten.images);
  CHECK(draw_digits(0, 7).count() == 0);
}

TEST_CASE("every image shows ink and background") {
  const Dataset& set = test_set();
  for (std::size_t i = 0; i < set.count(); ++i) {
    const auto image = std::span(set.images).subspan(i * kImageValues, kImageValues);
    const auto ink = std::count_if(image.begin(), image.end(), [](std::uint8_t pixel) { return pixel > 128; });
    CAPTURE(i);
    REQUIRE(ink >= 15);
    REQUIRE(ink <= 350);
  }
}

TEST_CASE("a linear model gets less than 90 percent of the drawn digits right, however long it learns", "[epochs]") {
  constexpr std::size_t kEpochs = 25;
  constexpr std::size_t kBatch = 100;
  const Images test(test_set(), all_of(test_set()));
  LinearModel model;
  double best = 0;
  for (std::size_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = shuffled(kDrawnTrainSamples, epoch);
    for (std::size_t first = 0; first < order.size(); first += kBatch) {
      model.learn(Images(train_set(), std::span(order).subspan(first, kBatch)));
    }
    best = std::max(best, model.accuracy(test));
  }
  CHECK(best < 90);
  CHECK(best > 60);  // it does learn
}

TEST_CASE("BasicNet gets more than 97 percent of the drawn digits right after one epoch", "[epochs]") {
  // As two ranks with 64 images each and every default: one process takes both halves.
  constexpr std::size_t kBatch = 128;
  const auto backend = make_cpu_backend(basic_net(), {}, {.on = true, .seed = 0}, 1);
  REQUIRE(backend);
  REQUIRE((*backend)->load_parameters(initial_parameters(basic_net(), 0)));
  const auto order = DistributedSampler(kDrawnTrainSamples, 1, 0, 0).epoch(0);
  std::uint64_t step = 0;
  for (std::size_t first = 0; first < order.size(); first += kBatch) {
    const Images batch(train_set(), std::span(order).subspan(first, std::min(kBatch, order.size() - first)));
    REQUIRE((*backend)->forward_backward({batch.values, batch.labels, {.first = first}}, {},
                                         [](std::size_t) -> Result<void> { return ok; }));
    REQUIRE((*backend)->optimizer_step(++step, 1e-3));
  }
  const Images test(test_set(), all_of(test_set()));
  const auto result = (*backend)->evaluate({.images = test.values, .labels = test.labels});
  REQUIRE(result);
  CHECK(100.0 * static_cast<double>(result->correct) / static_cast<double>(result->count) > 97);
}

}  // namespace trainer_digits_test
