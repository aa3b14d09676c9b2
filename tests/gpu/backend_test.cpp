// The CUDA backend against the CPU's, on the same weights and images, dropout off: losses, every gradient, AdamW's
// result. Then both learn for some steps. Then steps as a CUDA graph against the same steps started by the host.
// Without a usable GPU: exit status 77 and the reason. --short leaves out what takes an emulated one long: times, and
// the first model's graphs in two of three precisions.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/gpu/relative_difference.hpp"
#include "trainer/cpu_backend.hpp"
#include "trainer/cuda/check.hpp"
#include "trainer/cuda/cuda_backend.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/kernels.hpp"
#include "trainer/dataset.hpp"
#include "trainer/host_steps.hpp"
#include "trainer/init.hpp"
#include "trainer/sampler.hpp"

namespace {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

constexpr std::size_t kBatch = 64;
constexpr std::size_t kImage = 28 * 28;
/// fp32 on both sides, sums of up to 36,864 terms in different orders.
constexpr double kTolerance = 1e-4;
constexpr double kLearningRate = 1e-3;
constexpr int kSteps = 20;
constexpr int kTimedSteps = 200;
constexpr int kSkipped = 77;

int failures = 0;

void expect(bool good, const std::string& subject) {
  fmt::print("{}: {}\n", good ? "ok" : "FAILED", subject);
  if (!good) ++failures;
}

template <class T>
T must(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}\n", to_string(result.error()));
  std::exit(1);
}
void must(const Result<void>& result) {
  if (result) return;
  fmt::print(stderr, "{}\n", to_string(result.error()));
  std::exit(1);
}

/// Images in which learning is possible: each label brightens its own rows.
struct Images {
  explicit Images(unsigned seed) : values(kBatch * kImage), labels(kBatch) {
    std::mt19937 bits(seed);
    for (std::size_t b = 0; b < kBatch; ++b) {
      labels[b] = static_cast<std::uint8_t>(bits() % 10);
      for (std::size_t i = 0; i < kImage; ++i) {
        const bool bright = i / 28 / 3 == labels[b];
        values[b * kImage + i] = std::ldexp(static_cast<float>(bits() >> 8U), -24) + (bright ? 1.0F : -0.5F);
      }
    }
  }
  Batch batch() const { return {.images = values, .labels = labels}; }
  std::vector<float> values;
  std::vector<std::uint8_t> labels;
};

std::vector<float> host_copy(std::span<const float> device) {
  std::vector<float> host(device.size());
  must(cuda::copy_to_host(host, device));
  return host;
}

const GradientReady kIgnore = [](std::size_t) -> Result<void> { return ok; };

std::vector<std::size_t> last_first(std::size_t count) {
  std::vector<std::size_t> order(count);
  std::iota(order.rbegin(), order.rend(), std::size_t{0});
  return order;
}

void compare_one_step(Backend& cpu, Backend& gpu) {
  const Images images(1);
  const BatchResult by_cpu = must(cpu.forward_backward(images.batch(), {}, kIgnore));
  std::vector<std::size_t> order;
  const BatchResult by_gpu = must(gpu.forward_backward(images.batch(), {}, [&](std::size_t index) -> Result<void> {
    order.push_back(index);
    return ok;
  }));
  expect(std::abs(by_cpu.loss_sum - by_gpu.loss_sum) <= kTolerance * std::abs(by_cpu.loss_sum),
         fmt::format("loss {} on the CPU, {} on the GPU", by_cpu.loss_sum / kBatch, by_gpu.loss_sum / kBatch));
  expect(by_cpu.correct == by_gpu.correct, "the same hits");
  expect(order == last_first(cpu.model().parameters.size()), "gradients become ready from the last layer on");
  const std::vector<float> gradient = host_copy(gpu.gradient());
  for (const Parameter& parameter : cpu.model().parameters) {
    const double difference =
        relative_difference(std::span(gradient).subspan(parameter.first, parameter.count),
                            std::span<const float>(cpu.gradient()).subspan(parameter.first, parameter.count));
    expect(difference <= kTolerance,
           fmt::format("gradient of {}: relative difference {:.1e}", parameter.name, difference));
  }
  must(cpu.optimizer_step(1, kLearningRate));
  must(gpu.optimizer_step(1, kLearningRate));
  const double difference = relative_difference(must(gpu.copy_parameters()), must(cpu.copy_parameters()));
  expect(difference <= kTolerance, fmt::format("parameters after one step: relative difference {:.1e}", difference));
}

void compare_learning(Backend& cpu, Backend& gpu) {
  double worst = 0;
  double last = 0;
  for (int step = 2; step <= kSteps; ++step) {
    const Images images(static_cast<unsigned>(step));
    const double by_cpu = must(cpu.forward_backward(images.batch(), {}, kIgnore)).loss_sum;
    const double by_gpu = must(gpu.forward_backward(images.batch(), {}, kIgnore)).loss_sum;
    must(cpu.optimizer_step(static_cast<std::uint64_t>(step), kLearningRate));
    must(gpu.optimizer_step(static_cast<std::uint64_t>(step), kLearningRate));
    worst = std::max(worst, std::abs(by_cpu - by_gpu) / kBatch);
    last = by_gpu / kBatch;
  }
  expect(worst <= 1e-2, fmt::format("loss curves over {} steps differ by at most {:.1e}", kSteps, worst));
  expect(last < 2.0, fmt::format("the GPU learns: loss {:.3f} after {} steps", last, kSteps));
}

void compare_repetition(const World& world, const Model& model, const AdamWOptions& adamw) {
  const Images images(3);
  std::vector<std::vector<float>> results;
  for (int round = 0; round < 2; ++round) {
    const auto gpu = must(cuda::make_cuda_backend(world, model, adamw, {.on = true, .seed = 5}));
    must(gpu->load_parameters(initial_parameters(model, 1)));
    for (std::uint64_t step = 1; step <= 3; ++step) {
      must(gpu->forward_backward({images.values, images.labels, {.first = kBatch * step}}, {}, kIgnore));
      must(gpu->optimizer_step(step, kLearningRate));
    }
    results.push_back(must(gpu->copy_parameters()));
  }
  expect(results[0] == results[1], "three steps with dropout repeat bit for bit");
}

/// Masks, accumulation and clipping: one step of two batches on both.
void compare_accumulated_step(const World& world, const Model& model) {
  const DropoutOptions dropout{.on = true, .seed = 6};
  const auto cpu = must(make_cpu_backend(model, {}, dropout, 2));
  const auto gpu = must(cuda::make_cuda_backend(world, model, {}, dropout));
  std::vector<double> norms;
  for (Backend* backend : {cpu.get(), gpu.get()}) {
    must(backend->load_parameters(initial_parameters(model, 1)));
    for (std::uint64_t part = 0; part < 2; ++part) {
      const Images images(static_cast<unsigned>(5 + part));
      must(backend->forward_backward({images.values, images.labels, {.first = 1'000 + part, .stride = 2}},
                                     {.scale = 0.5F, .accumulate = part == 1}, kIgnore));
    }
    norms.push_back(must(backend->gradient_norm()));
    must(backend->clip_gradient(norms.back(), 0.01));
  }
  const double difference = relative_difference(host_copy(gpu->gradient()), std::span<const float>(cpu->gradient()));
  expect(difference <= kTolerance,
         fmt::format("two batches with dropout, added up and clipped: relative difference {:.1e}", difference));
  expect(std::abs(norms[1] - norms[0]) <= kTolerance * norms[0],
         fmt::format("the norm before: {} on the CPU, {} on the GPU", norms[0], norms[1]));
}

/// The CPU rounds alike, so a product differs by the order of additions, but for convolutions, which cuDNN does in
/// TF32, and which for fp16 are rounded before their bias is added, as PyTorch's. Logits show that alone. In a gradient
/// relus and the pool turn on it here and there, each for a whole image: on the emulated device the last layer's
/// gradient in TF32 differs by 4e-4, those before the first relu on the way back by 8e-3 to 2e-2. It rounds to TF32;
/// tensor cores may cut off, for which PyTorch, made to do so, gives logits that differ by 1.7e-3.
void compare_precision(const World& world, const Model& model) {
  const Images images(9);
  for (const Precision precision : {Precision::tf32, Precision::bf16, Precision::fp16}) {
    const double bound = precision == Precision::bf16 ? 1e-2 : precision == Precision::tf32 ? 4e-3 : 2e-3;
    const auto cpu = must(make_cpu_backend(model, {}, {.on = false, .seed = 0}, 2,
                                           must(cpu_math(precision == Precision::tf32 ? Precision::fp32 : precision))));
    const float scale = precision == Precision::fp16 ? 1024 : 1;
    std::vector<double> norms;
    const auto gpu = must(cuda::make_cuda_backend(world, model, {}, {.on = false, .seed = 0}, precision));
    std::vector<std::vector<float>> logits;
    for (Backend* backend : {cpu.get(), gpu.get()}) {
      must(backend->load_parameters(initial_parameters(model, 1)));
      logits.push_back(must(backend->predict(images.batch())));
      must(backend->forward_backward(images.batch(), {.scale = scale}, kIgnore));
      norms.push_back(must(backend->unscale_gradient(1 / scale)));
    }
    expect(std::abs(norms[1] - norms[0]) <= 4e-2 * norms[0],
           fmt::format("{}: the unscaled gradient's norm in {}: {} on the CPU, {} on the GPU", model.title,
                       precision_name(precision), norms[0], norms[1]));
    const double of_gradient = relative_difference(host_copy(gpu->gradient()), std::span<const float>(cpu->gradient()));
    expect(of_gradient <= 4e-2, fmt::format("{}: gradient in {}: relative difference {:.1e}", model.title,
                                            precision_name(precision), of_gradient));
    const double difference = relative_difference(logits[1], logits[0]);
    expect(difference <= bound, fmt::format("{}: logits in {}: relative difference {:.1e}", model.title,
                                            precision_name(precision), difference));
  }
}

/// What is above the largest half is infinite: the host then leaves the step out.
void compare_overflow(const World& world, const Model& model) {
  const Images images(9);
  const auto gpu = must(cuda::make_cuda_backend(world, model, {}, {.on = false, .seed = 0}, Precision::fp16));
  must(gpu->load_parameters(initial_parameters(model, 1)));
  must(gpu->forward_backward(images.batch(), {.scale = 1e9F}, kIgnore));
  const double norm = must(gpu->unscale_gradient(1e-9F));
  expect(!std::isfinite(norm), fmt::format("{}: a gradient that overflows fp16 has the norm {}", model.title, norm));
  must(gpu->forward_backward(images.batch(), {.scale = 64}, kIgnore));
  const double good = must(gpu->unscale_gradient(1.0F / 64));
  expect(std::isfinite(good) && good > 0, fmt::format("{}: one that does not has {}", model.title, good));
}

/// Images as bytes, with the same rows bright as in `Images`.
Dataset make_dataset(std::size_t count) {
  Dataset images;
  std::mt19937 bits(11);
  for (std::size_t b = 0; b < count; ++b) {
    images.labels.push_back(static_cast<std::uint8_t>(bits() % 10));
    for (std::size_t i = 0; i < kImage; ++i) {
      images.images.push_back(static_cast<std::uint8_t>(bits() % 64 + (i / 28 / 3 == images.labels.back() ? 190 : 0)));
    }
  }
  return images;
}

/// The kernel's batch is the host's, bit for bit: every byte's number is looked up in the host's own table.
void compare_gathered_batch() {
  constexpr std::size_t kCount = 200;
  constexpr std::size_t kFirst = 37;
  const Dataset images = make_dataset(kCount);
  const std::vector<std::uint32_t> order = shuffled(kCount, 3);
  std::vector<float> expected(kBatch * kImage);
  std::vector<std::uint8_t> expected_labels(kBatch);
  fill_batch(images, std::span(order).subspan(kFirst, kBatch), expected, expected_labels);
  const auto found = must(cuda::without_exceptions([&] {
    const auto up = [](auto& to, const auto& from) {
      CUDA_CHECK(cudaMemcpy(to.data(), from.data(), from.size() * sizeof(from[0]), cudaMemcpyHostToDevice));
    };
    std::vector<float> numbers;
    for (int byte = 0; byte < 256; ++byte) numbers.push_back(normalised(static_cast<std::uint8_t>(byte)));
    const std::vector<cuda::StepNumbers> step = {{.first_position = kFirst, .first_sample = 0, .slot = 0, .adamw = {}}};
    cuda::DeviceArray<std::uint8_t> pixels(images.images.size()), labels(kCount), batch_labels(kBatch);
    cuda::DeviceArray<std::uint32_t> device_order(kCount);
    cuda::DeviceArray<float> table(256), batch(kBatch * kImage);
    cuda::DeviceArray<cuda::StepNumbers> current(1);
    up(pixels, images.images);
    up(labels, images.labels);
    up(device_order, order);
    up(table, numbers);
    up(current, step);
    cuda::gather(
        batch.data(), batch_labels.data(),
        {.pixels = pixels.data(), .labels = labels.data(), .order = device_order.data(), .normalised = table.data()},
        current.data(), kBatch, nullptr);
    CUDA_CHECK(cudaGetLastError());
    std::pair<std::vector<float>, std::vector<std::uint8_t>> host = {std::vector<float>(kBatch * kImage),
                                                                     std::vector<std::uint8_t>(kBatch)};
    CUDA_CHECK(cudaMemcpy(host.first.data(), batch.data(), host.first.size() * sizeof(float), cudaMemcpyDeviceToHost));
    CUDA_CHECK(cudaMemcpy(host.second.data(), batch_labels.data(), kBatch, cudaMemcpyDeviceToHost));
    return host;
  }));
  expect(found.first == expected && found.second == expected_labels, "a gathered batch is the host's, bit for bit");
}

ResidentPlan plan_for(const Dataset& images, std::uint64_t steps) {
  return {.images = &images,
          .batch_size = kBatch,
          .most_positions = images.count(),
          .most_steps = steps,
          .sample_stride = 2,
          .halts = true,
          .ready = kIgnore,
          .averaged = [] { return Result<void>(ok); },
          .drained = [] { return Result<void>(ok); }};
}

struct Course {
  std::vector<double> losses;
  std::vector<float> weights, first_moment, second_moment;
};

/// kSteps steps, a look after each seventh and the last; a learning rate of their own for all of them.
Course run_course(Backend& backend, ResidentSteps& steps, const std::vector<std::uint32_t>& order) {
  std::vector<ResidentStep> numbers;
  for (std::uint64_t i = 0; i < kSteps; ++i) {
    numbers.push_back({.first_position = i * kBatch,
                       .first_sample = 1 + 2 * i * kBatch,
                       .optimizer_step = i + 1,
                       .learning_rate = kLearningRate / (1 + 0.1 * static_cast<double>(i))});
  }
  must(steps.begin(order, numbers));
  Course course;
  for (int i = 1; i <= kSteps; ++i) {
    must(steps.launch());
    if (i % 7 != 0 && i != kSteps) continue;
    const auto losses = must(steps.collect());
    course.losses.insert(course.losses.end(), losses.begin(), losses.end());
  }
  course.weights = must(backend.copy_parameters());
  auto moments = must(backend.copy_moments());
  course.first_moment = std::move(moments.first);
  course.second_moment = std::move(moments.second);
  return course;
}

/// Not within a tolerance: both ways queue the same kernels with the same numbers, and every sum has a fixed order.
void compare_graph(const World& world, const Model& model, Precision precision) {
  const Dataset images = make_dataset(kSteps * kBatch);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 3);
  const ResidentPlan plan = plan_for(images, kSteps);
  std::vector<Course> courses;
  for (const bool as_graph : {false, true}) {
    const auto gpu = must(cuda::make_cuda_backend(world, model, {}, {.on = true, .seed = 5}, precision));
    must(gpu->load_parameters(initial_parameters(model, 1)));
    const auto steps = as_graph ? must(gpu->make_resident(plan)) : make_host_steps(*gpu, plan);
    courses.push_back(run_course(*gpu, *steps, order));
  }
  const std::string name = fmt::format("{}, {}, dropout on, {} steps", model.title, precision_name(precision), kSteps);
  expect(courses[0].losses.size() == kSteps && courses[0].losses == courses[1].losses,
         fmt::format("{}: the graph's losses are those of steps started by the host, bit for bit", name));
  expect(courses[0].weights == courses[1].weights && courses[0].first_moment == courses[1].first_moment &&
             courses[0].second_moment == courses[1].second_moment,
         fmt::format("{}: so are the weights and moments (relative difference {:.1e})", name,
                     relative_difference(courses[1].weights, courses[0].weights)));
  expect(courses[1].losses.back() < courses[1].losses.front(), fmt::format("{}: and something is learned", name));
}

void compare_halt(const World& world, const Model& model) {
  const Dataset images = make_dataset(kSteps * kBatch);
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(images.count()), 3);
  const auto gpu = must(cuda::make_cuda_backend(world, model, {}, {.on = false, .seed = 0}));
  auto weights = initial_parameters(model, 1);
  weights.back() = std::nanf("");  // one class's bias
  must(gpu->load_parameters(weights));
  const auto steps = must(gpu->make_resident(plan_for(images, kSteps)));
  const Course course = run_course(*gpu, *steps, order);
  expect(std::isnan(course.losses.front()) && std::equal(weights.begin(), weights.end() - 1, course.weights.begin()),
         fmt::format("{}: a loss that is no number halts the graph's AdamW", model.title));
}

void measure(Backend& gpu) {
  const Images images(4);
  const auto begin = std::chrono::steady_clock::now();
  for (int step = 0; step < kTimedSteps; ++step) {
    must(gpu.forward_backward(images.batch(), {}, kIgnore));
    must(gpu.optimizer_step(static_cast<std::uint64_t>(kSteps + step), kLearningRate));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("measured: {} steps of {} images, {:.0f} samples/s, {:.3f} ms per step\n", kTimedSteps, kBatch,
             kTimedSteps * kBatch / seconds, 1000 * seconds / kTimedSteps);
}

}  // namespace

int main(int count, char** words) {
  const bool is_short = count > 1 && std::string(words[1]) == "--short";
  if (const auto usable = cuda::probe(); !usable) {
    fmt::print("skipped: {}\n", to_string(usable.error()));
    return kSkipped;
  }
  const World world;
  const AdamWOptions adamw;
  const DropoutOptions no_dropout{.on = false, .seed = 0};
  compare_gathered_batch();
  for (const Model* model : all_models()) {
    const auto cpu = must(make_cpu_backend(*model, adamw, no_dropout, 2));
    const auto gpu = must(cuda::make_cuda_backend(world, *model, adamw, no_dropout));
    fmt::print("{}: {} against {}\n", model->title, gpu->description(), cpu->description());
    const std::vector<float> weights = initial_parameters(*model, 1);
    must(cpu->load_parameters(weights));
    must(gpu->load_parameters(weights));
    compare_one_step(*cpu, *gpu);
    compare_learning(*cpu, *gpu);
    compare_repetition(world, *model, adamw);
    compare_accumulated_step(world, *model);
    compare_precision(world, *model);
    compare_overflow(world, *model);
    for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
      if (is_short && precision != Precision::fp32 && model == all_models().front()) continue;
      compare_graph(world, *model, precision);
    }
    compare_halt(world, *model);
    if (!is_short && model == all_models().front()) measure(*gpu);
  }
  return failures == 0 ? 0 : 1;
}
