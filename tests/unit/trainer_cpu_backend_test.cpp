// The CPU backend by itself: gradients against finite differences, batches of every size, threads, errors.
#include "trainer/cpu_backend.hpp"

#include <cmath>
#include <numeric>

#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"
#include "trainer/cpu_kernels.hpp"
#include "trainer/init.hpp"
#include "trainer/random.hpp"

namespace trainer_cpu_backend_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

constexpr std::size_t kImage = 28 * 28;
const GradientReady kIgnore = [](std::size_t) -> Result<void> { return ok; };

struct Images {
  explicit Images(std::size_t count, std::uint64_t seed = 1) : values(count * kImage), labels(count) {
    RandomSequence random(seed);
    for (float& value : values) value = random.between(-0.5F, 2.5F);
    for (std::uint8_t& label : labels) label = static_cast<std::uint8_t>(random.below(10));
  }
  Batch batch(std::size_t first = 0, std::size_t count = static_cast<std::size_t>(-1)) const {
    const std::size_t number = std::min(count, labels.size() - first);
    return {.images = std::span(values).subspan(first * kImage, number * kImage),
            .labels = std::span(labels).subspan(first, number)};
  }
  std::vector<float> values;
  std::vector<std::uint8_t> labels;
};

std::unique_ptr<Backend> make_backend_of(const Model& model, bool dropout = false, std::uint32_t threads = 1,
                                         std::uint64_t seed = 4) {
  auto backend = make_cpu_backend(model, {}, {.on = dropout, .seed = seed}, threads);
  REQUIRE(backend);
  REQUIRE((*backend)->load_parameters(initial_parameters(model, 1)));
  return std::move(*backend);
}
std::unique_ptr<Backend> make_backend(bool dropout = false, std::uint32_t threads = 1, std::uint64_t seed = 4) {
  return make_backend_of(basic_net(), dropout, threads, seed);
}

/// Every kind of layer where the listed models have it not: a relu and a dropout with no layer to be part of, a
/// convolution behind a pool, one before flatten, sides and kernels of other sizes, channels that fill no block.
const Model& odd_model() {
  static const Model kModel = make_model("odd", "Odd",
                                         {
                                             layer::Convolution{.name = "a", .out_channels = 5, .kernel = 5},
                                             layer::MaxPool{},
                                             layer::Relu{},
                                             layer::Convolution{.name = "b", .out_channels = 6, .kernel = 2},
                                             layer::Convolution{.name = "c", .out_channels = 4, .kernel = 1},
                                             layer::Flatten{},
                                             layer::Dropout{.p = 0.1F},
                                             layer::Linear{.name = "d", .out_features = 12},
                                             layer::Dropout{.p = 0.25F},
                                             layer::Relu{},
                                             layer::Dropout{.p = 0.5F},
                                             layer::Linear{.name = "e", .out_features = 10},
                                         });
  return kModel;
}

std::vector<float> gradient_of(Backend& backend, Batch batch, SampleNumbers samples = {}) {
  batch.samples = samples;
  REQUIRE(backend.forward_backward(batch, {}, kIgnore));
  return {backend.gradient().begin(), backend.gradient().end()};
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("it says what it is") {
  CHECK_THAT(make_backend(false, 1)->description(),
             Catch::StartsWith("cpu (oneDNN ") && Catch::EndsWith(", 1 thread)"));
  CHECK_THAT(make_backend(false, 2)->description(), Catch::EndsWith(", 2 threads)"));
  CHECK_THAT((*make_cpu_backend(mlp(), {}, {}, 2, CpuMath::bf16))->description(),
             Catch::EndsWith(", 2 threads, bf16)"));
  CHECK_THAT((*make_cpu_backend(mlp(), {}, {}, 2, CpuMath::emulated_bf16))->description(),
             Catch::EndsWith(", bf16 without instructions for it: slower than fp32)"));
  CHECK_THAT((*make_cpu_backend(mlp(), {}, {}, 2, CpuMath::emulated_fp16))->description(),
             Catch::EndsWith(", fp16 by rounding floats: slower than fp32)"));
}

TEST_CASE("every tensor's gradient is the slope of the loss") {
  const Images images(8);
  const Model& model = *GENERATE(&basic_net(), &mlp(), &odd_model());
  CAPTURE(model.name);
  for (const bool dropout : {false, true}) {
    const auto backend = make_backend_of(model, dropout);
    const std::vector<float> gradient = gradient_of(*backend, images.batch());
    const std::vector<float> parameters = initial_parameters(model, 1);
    for (const Parameter& parameter : model.parameters) {
      // Along the gradient itself, so that the slope is not lost in rounding.
      const auto begin = static_cast<std::ptrdiff_t>(parameter.first);
      const auto end = begin + static_cast<std::ptrdiff_t>(parameter.count);
      const double norm = std::sqrt(
          std::inner_product(gradient.begin() + begin, gradient.begin() + end, gradient.begin() + begin, 0.0));
      REQUIRE(norm > 0);
      const double length = 3e-4;
      double losses[2];
      for (const int side : {0, 1}) {
        std::vector<float> moved = parameters;
        for (std::size_t i = parameter.first; i < parameter.first + parameter.count; ++i) {
          moved[i] += static_cast<float>((side == 0 ? -length : length) / norm) * gradient[i];
        }
        REQUIRE(backend->load_parameters(moved));
        const auto result = backend->forward_backward(images.batch(), {}, kIgnore);
        REQUIRE(result);
        losses[side] = result->loss_sum / static_cast<double>(result->count);
      }
      CAPTURE(parameter.name, dropout);
      CHECK((losses[1] - losses[0]) / (2 * length) == Approx(norm).epsilon(0.01));
    }
  }
}

TEST_CASE("single entries of the gradient are slopes, too") {
  const Images images(4);
  const auto backend = make_backend();
  const std::vector<float> gradient = gradient_of(*backend, images.batch());
  for (const Parameter& parameter : basic_net().parameters) {
    // The largest entry: its slope is furthest above the rounding of the loss.
    const auto begin = gradient.begin() + static_cast<std::ptrdiff_t>(parameter.first);
    const auto largest = std::max_element(begin, begin + static_cast<std::ptrdiff_t>(parameter.count),
                                          [](float a, float b) { return std::abs(a) < std::abs(b); });
    const auto index = static_cast<std::size_t>(largest - gradient.begin());
    double losses[2];
    for (const int side : {0, 1}) {
      std::vector<float> moved = initial_parameters(basic_net(), 1);
      moved[index] += side == 0 ? -2e-3F : 2e-3F;
      REQUIRE(backend->load_parameters(moved));
      losses[side] = backend->forward_backward(images.batch(), {}, kIgnore)->loss_sum / 4;
    }
    CAPTURE(parameter.name, index);
    CHECK((losses[1] - losses[0]) / 4e-3 == Approx(*largest).epsilon(0.05).margin(2e-4));
  }
}

TEST_CASE("gradients become ready from the last layer on, bias before weight, and are complete by then") {
  const Images images(3);
  const auto backend = make_backend();
  std::vector<std::size_t> order;
  std::vector<float> seen(basic_net().values);
  REQUIRE(backend->forward_backward(images.batch(), {}, [&](std::size_t index) -> Result<void> {
    order.push_back(index);
    const auto tensor =
        backend->gradient().subspan(basic_net().parameters[index].first, basic_net().parameters[index].count);
    std::copy(tensor.begin(), tensor.end(),
              seen.begin() + static_cast<std::ptrdiff_t>(basic_net().parameters[index].first));
    return ok;
  }));
  CHECK(order == std::vector<std::size_t>{7, 6, 5, 4, 3, 2, 1, 0});
  CHECK(std::equal(seen.begin(), seen.end(), backend->gradient().begin()));
}

TEST_CASE("an error of ready ends the pass and is returned") {
  const Images images(3);
  const auto backend = make_backend();
  std::size_t calls = 0;
  const auto result = backend->forward_backward(images.batch(), {}, [&](std::size_t index) -> Result<void> {
    ++calls;
    if (index == 5) return make_error(Errc::closed, "lost rank 2");
    return ok;
  });
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::closed);
  CHECK(result.error().what == "lost rank 2");
  CHECK(calls == 3);
  // The next pass is whole again.
  CHECK(gradient_of(*backend, images.batch()) == gradient_of(*make_backend(), images.batch()));
}

TEST_CASE("batches of any size: the mean of unequal pieces, weighted, is the gradient of the whole") {
  const Images images(13);
  const auto backend = make_backend();
  const std::vector<float> whole = gradient_of(*backend, images.batch());
  std::vector<float> sum(basic_net().values, 0.0F);
  std::size_t first = 0;
  for (const std::size_t count : {1U, 2U, 3U, 5U, 2U}) {  // more sizes than are kept, and one again
    const std::vector<float> piece = gradient_of(*backend, images.batch(first, count));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += piece[i] * static_cast<float>(count) / 13;
    first += count;
  }
  REQUIRE(first == 13);
  CHECK(relative_difference(sum, whole) < 1e-5);
}

TEST_CASE("one thread and two give the same numbers up to rounding, and each the same bits again") {
  const Images images(17);
  const std::vector<float> one = gradient_of(*make_backend(true, 1), images.batch());
  const std::vector<float> two = gradient_of(*make_backend(true, 2), images.batch());
  CHECK(relative_difference(two, one) < 1e-5);
  CHECK(gradient_of(*make_backend(true, 1), images.batch()) == one);
  CHECK(gradient_of(*make_backend(true, 2), images.batch()) == two);
}

TEST_CASE("bfloat16 by instructions and by rounding floats is the same, and is not fp32") {
  if (*cpu_math(Precision::bf16) != CpuMath::bf16) {
    WARN("this processor has no instructions for bfloat16");
    return;
  }
  const Images images(16);
  const Model& model = *GENERATE(&basic_net(), &mlp(), &odd_model());
  const std::uint32_t threads = GENERATE(1U, 2U);
  CAPTURE(model.name, threads);
  std::vector<std::vector<float>> gradients, logits;
  for (const CpuMath math : {CpuMath::bf16, CpuMath::emulated_bf16, CpuMath::fp32}) {
    auto backend = make_cpu_backend(model, {}, {.on = true, .seed = 4}, threads, math);
    REQUIRE(backend);
    REQUIRE((*backend)->load_parameters(initial_parameters(model, 1)));
    gradients.push_back(gradient_of(**backend, images.batch()));
    CHECK(gradient_of(**backend, images.batch()) == gradients.back());
    logits.push_back(*(*backend)->predict(images.batch()));
  }
  // A sum in another order is some 1e-7 off, and one in ten thousand of these then rounds to the neighbour, 4e-3 away:
  // 1e-4 as a whole (seen: up to 3e-5). A relu that turns on it makes that ten times as much.
  CHECK(relative_difference(logits[0], logits[1]) < 1e-4);
  CHECK(relative_difference(gradients[0], gradients[1]) < 1e-3);
  CHECK(relative_difference(logits[0], logits[2]) > 1e-3);
  CHECK(relative_difference(gradients[0], gradients[2]) > 3e-3);
}

TEST_CASE(
    "half precision is what torch's autocast leaves: results that are halves, and infinite where they are too large") {
  const Images images(16);
  const Model& model = *GENERATE(&basic_net(), &mlp(), &odd_model());
  CAPTURE(model.name);
  const auto half = make_cpu_backend(model, {}, {.on = false, .seed = 0}, 1, CpuMath::emulated_fp16);
  const auto full = make_cpu_backend(model, {}, {.on = false, .seed = 0}, 1, CpuMath::fp32);
  REQUIRE(half);
  REQUIRE(full);
  const auto gradient_by = [&](Backend& backend, float scale) {
    REQUIRE(backend.load_parameters(initial_parameters(model, 1)));
    REQUIRE(backend.forward_backward(images.batch(), {.scale = scale}, [](std::size_t) { return Result<void>(ok); }));
    return std::vector<float>(backend.gradient().begin(), backend.gradient().end());
  };
  const auto are_halves = [](std::vector<float> values) {
    const std::vector<float> before = values;
    round_to_fp16(values);
    return values == before;
  };
  const std::vector<float> scaled = gradient_by(**half, 256);
  CHECK(are_halves(scaled));
  CHECK(are_halves(*(*half)->predict(images.batch())));
  const std::vector<float> truth = gradient_by(**full, 1);
  const auto unscaled = (*half)->unscale_gradient(1.0F / 256);
  REQUIRE(unscaled);
  const std::vector<float> gradient((*half)->gradient().begin(), (*half)->gradient().end());
  // A rounding is 2^-11 of its value, and a relu that turns on one is some hundredths of all (seen: 2.5e-2).
  CHECK(relative_difference(gradient, truth) < 5e-2);
  CHECK(relative_difference(gradient, truth) > 1e-5);
  CHECK(*unscaled == Approx(norm_of(gradient)));
  gradient_by(**half, 1e9F);
  const auto overflowed = (*half)->unscale_gradient(1e-9F);
  REQUIRE(overflowed);
  CHECK_FALSE(std::isfinite(*overflowed));
}

TEST_CASE("dropout's masks change with sample and seed, and repeat for the same") {
  const Images images(5);
  const auto backend = make_backend(true);
  const std::vector<float> first = gradient_of(*backend, images.batch());
  CHECK(gradient_of(*backend, images.batch(), {.first = 5}) != first);
  CHECK(gradient_of(*backend, images.batch(), {.first = 0, .stride = 2}) != first);
  CHECK(gradient_of(*backend, images.batch()) == first);
  CHECK(gradient_of(*make_backend(true, 1, 5), images.batch()) != first);
  CHECK(gradient_of(*make_backend(false), images.batch()) != first);
}

TEST_CASE("with dropout, too, two ranks' gradients are together that of one process with all of their images") {
  const Images images(8);
  const std::vector<float> whole = gradient_of(*make_backend(true), images.batch(), {.first = 40});
  // Dealt like cards: rank r has the samples 40 + r, 42 + r, …
  std::vector<float> mean(basic_net().values, 0.0F);
  for (const std::size_t rank : {0U, 1U}) {
    std::vector<float> values;
    std::vector<std::uint8_t> labels;
    for (std::size_t i = rank; i < 8; i += 2) {
      const auto one = images.batch(i, 1);
      values.insert(values.end(), one.images.begin(), one.images.end());
      labels.push_back(one.labels[0]);
    }
    const auto half = gradient_of(*make_backend(true), {values, labels, {}}, {.first = 40 + rank, .stride = 2});
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += half[i] / 2;
  }
  CHECK(relative_difference(mean, whole) < 1e-5);
}

TEST_CASE("gradients of several batches are added up, each times its scale") {
  const Images images(12);
  const auto backend = make_backend();
  const std::vector<float> whole = gradient_of(*backend, images.batch());
  REQUIRE(backend->forward_backward(images.batch(0, 4), {.scale = 1.0F / 3}, kIgnore));
  REQUIRE(backend->forward_backward(images.batch(4, 4), {.scale = 1.0F / 3, .accumulate = true}, kIgnore));
  std::vector<float> seen(basic_net().values);
  REQUIRE(backend->forward_backward(
      images.batch(8, 4), {.scale = 1.0F / 3, .accumulate = true}, [&](std::size_t index) -> Result<void> {
        const Parameter& tensor = basic_net().parameters[index];
        std::copy_n(backend->gradient().data() + tensor.first, tensor.count, seen.data() + tensor.first);
        return ok;
      }));
  const std::vector<float> sum(backend->gradient().begin(), backend->gradient().end());
  CHECK(relative_difference(sum, whole) < 1e-5);
  CHECK(seen == sum);  // what is reported as ready is the sum already
  CHECK(gradient_of(*backend, images.batch()) == whole);
}

TEST_CASE("a gradient is clipped to a norm, and only where it is larger") {
  const Images images(4);
  const auto backend = make_backend();
  const std::vector<float> before = gradient_of(*backend, images.batch());
  const double norm = std::sqrt(std::inner_product(before.begin(), before.end(), before.begin(), 0.0));
  CHECK(*backend->gradient_norm() == Approx(norm));
  CHECK(backend->clip_gradient(norm, 2 * norm));
  CHECK(std::equal(before.begin(), before.end(), backend->gradient().begin()));
  CHECK(backend->clip_gradient(norm, norm / 4));
  const auto gradient = backend->gradient();
  CHECK(std::sqrt(std::inner_product(gradient.begin(), gradient.end(), gradient.begin(), 0.0)) ==
        Approx(norm / 4).epsilon(1e-5));
  CHECK(gradient[7] == Approx(before[7] / 4).epsilon(1e-5));
}

TEST_CASE("evaluation knows no dropout, and its pieces make no difference") {
  const Images images(150);  // three pieces
  const auto with = make_backend(true);
  const auto whole = with->evaluate(images.batch());
  REQUIRE(whole);
  CHECK(whole->count == 150);
  const auto trained = make_backend(false)->forward_backward(images.batch(), {}, kIgnore);
  REQUIRE(trained);
  CHECK(whole->loss_sum == Approx(trained->loss_sum).epsilon(1e-6));
  CHECK(whole->correct == trained->correct);
  double sum = 0;
  for (std::size_t i = 0; i < 150; ++i) sum += with->evaluate(images.batch(i, 1))->loss_sum;
  CHECK(sum == Approx(whole->loss_sum).epsilon(1e-6));
}

TEST_CASE("it learns a batch by heart") {
  const Images images(16);
  const auto backend = make_backend(true);
  for (std::uint64_t step = 1; step <= 40; ++step) {
    REQUIRE(backend->forward_backward({images.values, images.labels, {.first = 16 * step}}, {}, kIgnore));
    REQUIRE(backend->optimizer_step(step, 1e-3));
  }
  const auto result = backend->evaluate(images.batch());
  REQUIRE(result);
  CHECK(result->correct == 16);
  CHECK(result->loss_sum / 16 < 0.5);
}

TEST_CASE("parameters come back as they were loaded") {
  const auto backend = make_backend();
  const std::vector<float> other = initial_parameters(basic_net(), 8);
  REQUIRE(backend->load_parameters(other));
  CHECK(*backend->copy_parameters() == other);
  CHECK(std::equal(other.begin(), other.end(), backend->parameters().begin()));
}

TEST_CASE("what cannot be computed is refused in words") {
  const auto backend = make_backend();
  Images images(2);
  images.labels[1] = 10;
  const auto label = backend->evaluate(images.batch());
  REQUIRE_FALSE(label);
  CHECK(label.error().code == Errc::invalid_argument);
  CHECK(label.error().what == "label 10; labels are 0 to 9");
  const Batch uneven{.images = std::span(images.values).first(kImage), .labels = images.labels};
  const auto pixels = backend->forward_backward(uneven, {}, kIgnore);
  REQUIRE_FALSE(pixels);
  CHECK(pixels.error().what == "a batch of 2 labels and 784 pixels, not 1568");
  const auto empty = backend->forward_backward({}, {}, kIgnore);
  REQUIRE_FALSE(empty);
  CHECK(empty.error().what == "a batch without images");
  const auto few = backend->load_parameters(std::vector<float>(3));
  REQUIRE_FALSE(few);
  CHECK(few.error().what == "3 parameters; BasicNet has 1199882");
  const auto threads = make_cpu_backend(basic_net(), {}, {}, 0);
  REQUIRE_FALSE(threads);
  CHECK(threads.error().code == Errc::invalid_argument);
}

#if !LLMLAUNCH_SANITIZED
// Sanitizers end the process where memory is asked for that is not there.
TEST_CASE("parameters for which there is no memory are told, and no batch") {
  Model large = basic_net();
  large.values = std::size_t{1} << 50U;
  const auto none = make_cpu_backend(large, {}, {}, 1);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::out_of_resources);
  CHECK(to_string(none.error()) ==
        "no memory for BasicNet: parameters, gradient and AdamW's moments take 18014398509481984 bytes\n   hint: "
        "'ulimit -v' and the cgroup's memory.max set how much there may be");
}
#endif

}  // namespace trainer_cpu_backend_test
