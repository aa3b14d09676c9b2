// Steps by way of ResidentSteps against the same steps taken one by one, and what halts or refuses them.
#include "trainer/host_steps.hpp"

#include <cmath>
#include <limits>

#include "tests/support/catch.hpp"
#include "trainer/cpu_backend.hpp"
#include "trainer/dataset.hpp"
#include "trainer/init.hpp"
#include "trainer/sampler.hpp"

namespace trainer_host_steps_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

constexpr std::size_t kBatch = 4;
constexpr std::uint64_t kSteps = 5;

Dataset noise(std::size_t count) {
  Dataset images;
  for (std::size_t i = 0; i < count * kImageValues; ++i)
    images.images.push_back(static_cast<std::uint8_t>(i * i % 251));
  for (std::size_t i = 0; i < count; ++i) images.labels.push_back(static_cast<std::uint8_t>(i % 10));
  return images;
}

std::unique_ptr<Backend> make_mlp() {
  auto backend = make_cpu_backend(*find_model("mlp"), {}, {.on = true, .seed = 4}, 1);
  REQUIRE(backend);
  REQUIRE((*backend)->load_parameters(initial_parameters((*backend)->model(), 1)));
  return std::move(*backend);
}

/// Steps of rank 1 of 3: its samples' numbers are every third.
ResidentStep step_number(std::uint64_t index) {
  return {.first_position = index * kBatch,
          .first_sample = 1 + 3 * index * kBatch,
          .optimizer_step = index + 1,
          .learning_rate = 1e-3 / static_cast<double>(index + 1)};
}

struct Calls {
  std::size_t ready = 0, averaged = 0, drained = 0;
};

ResidentPlan plan_for(const Dataset& images, Calls& calls) {
  return {.images = &images,
          .batch_size = kBatch,
          .most_positions = images.count(),
          .most_steps = kSteps,
          .sample_stride = 3,
          .halts = true,
          .ready =
              [&calls](std::size_t) {
                ++calls.ready;
                return Result<void>(ok);
              },
          .averaged =
              [&calls] {
                ++calls.averaged;
                return Result<void>(ok);
              },
          .drained =
              [&calls] {
                ++calls.drained;
                return Result<void>(ok);
              }};
}

std::vector<ResidentStep> all_steps() {
  std::vector<ResidentStep> steps;
  for (std::uint64_t i = 0; i < kSteps; ++i) steps.push_back(step_number(i));
  return steps;
}

}  // namespace

TEST_CASE("launched steps are the ordinary ones, bit for bit, and their losses come in order") {
  const Dataset images = noise(kBatch * kSteps);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 7);
  const auto ordinary = make_mlp();
  std::vector<double> expected;
  for (std::uint64_t i = 0; i < kSteps; ++i) {
    std::vector<float> pixels(kBatch * kImageValues);
    std::vector<std::uint8_t> labels(kBatch);
    fill_batch(images, std::span(order).subspan(i * kBatch, kBatch), pixels, labels);
    const auto result = ordinary->forward_backward(
        {.images = pixels, .labels = labels, .samples = {.first = step_number(i).first_sample, .stride = 3}}, {},
        [](std::size_t) { return Result<void>(ok); });
    REQUIRE(result);
    expected.push_back(result->loss_sum / kBatch);
    REQUIRE(ordinary->optimizer_step(i + 1, step_number(i).learning_rate));
  }

  const auto backend = make_mlp();
  Calls calls;
  const auto steps = make_host_steps(*backend, plan_for(images, calls));
  const auto numbers = all_steps();
  REQUIRE(steps->begin(order, numbers));
  for (int i = 0; i < 2; ++i) REQUIRE(steps->launch());
  const auto early = steps->collect();
  REQUIRE(early);
  std::vector<double> losses = *early;
  REQUIRE(losses.size() == 2);
  for (int i = 0; i < 3; ++i) REQUIRE(steps->launch());
  const auto rest = steps->collect();
  REQUIRE(rest);
  losses.insert(losses.end(), rest->begin(), rest->end());
  CHECK(losses == expected);
  CHECK(*backend->copy_parameters() == *ordinary->copy_parameters());
  CHECK(calls.ready == kSteps * backend->model().parameters.size());
  CHECK(calls.averaged == kSteps);
  CHECK(calls.drained == 2);
}

TEST_CASE("from the first loss on that is no number no step changes a weight, unless it shall") {
  const Dataset images = noise(kBatch * kSteps);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 7);
  const bool halts = GENERATE(true, false);
  CAPTURE(halts);
  const auto backend = make_mlp();
  auto weights = *backend->copy_parameters();
  weights.back() = std::numeric_limits<float>::quiet_NaN();  // of one logit, so that many weights would change
  REQUIRE(backend->load_parameters(weights));
  Calls calls;
  ResidentPlan plan = plan_for(images, calls);
  plan.halts = halts;
  const auto steps = make_host_steps(*backend, plan);
  REQUIRE(steps->begin(order, all_steps()));
  for (int i = 0; i < 3; ++i) REQUIRE(steps->launch());
  const auto losses = steps->collect();
  REQUIRE(losses);
  REQUIRE(losses->size() == 3);
  CHECK(std::isnan(losses->front()));
  const auto after = backend->copy_parameters();
  REQUIRE(after);
  CHECK(std::equal(after->begin(), after->end() - 1, weights.begin()) == halts);
  CHECK(calls.averaged == 3);  // the other ranks' collectives go on
}

TEST_CASE("steps beyond those given, too many in flight and a start among them are refused") {
  const Dataset images = noise(kBatch);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 7);
  const auto backend = make_mlp();
  Calls calls;
  const auto steps = make_host_steps(*backend, plan_for(images, calls));
  REQUIRE(steps->begin(order, std::vector<ResidentStep>(1)));
  REQUIRE(steps->launch());
  CHECK_THAT(steps->launch().error().what, Catch::Contains("step 2 of 1 cannot be launched"));
  CHECK_THAT(steps->begin(order, std::vector<ResidentStep>(1)).error().what,
             Catch::Contains("1 steps were not looked at"));
  REQUIRE(steps->collect());
  REQUIRE(steps->begin(order, std::vector<ResidentStep>(kStepsInFlight + 1)));
  for (std::size_t i = 0; i < kStepsInFlight; ++i) REQUIRE(steps->launch());
  CHECK_THAT(steps->launch().error().what, Catch::Contains("64 wait to be looked at"));
  REQUIRE(steps->collect());
  CHECK(steps->launch());
}

TEST_CASE("an error on the way is the step's") {
  const Dataset images = noise(kBatch);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 7);
  const auto backend = make_mlp();
  const auto lost = [] { return Result<void>(make_error(Errc::closed, "lost rank 1")); };
  for (int which = 0; which < 3; ++which) {
    CAPTURE(which);
    Calls calls;
    ResidentPlan plan = plan_for(images, calls);
    if (which == 0) plan.ready = [&](std::size_t) { return lost(); };
    if (which == 1) plan.averaged = lost;
    if (which == 2) plan.drained = lost;
    const auto steps = make_host_steps(*backend, plan);
    REQUIRE(steps->begin(order, std::vector<ResidentStep>(1)));
    const auto launched = steps->launch();
    CHECK(launched.has_value() == (which == 2));
    if (which == 2) {
      CHECK(steps->collect().error().what == "lost rank 1");
    } else {
      CHECK(launched.error().what == "lost rank 1");
    }
  }
}

}  // namespace trainer_host_steps_test
