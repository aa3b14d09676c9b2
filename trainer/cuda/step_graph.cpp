// One step as a graph. Its network is its own: that of the backend changes its memory when a batch has another size,
// and a graph keeps the addresses that it was captured with.
#include "trainer/cuda/step_graph.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "trainer/cuda/check.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/network.hpp"
#include "trainer/dataset.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

/// What stops a capture that is not NCCL's or the driver's fault: the error of a call inside.
class CaptureError : public std::exception {
 public:
  explicit CaptureError(Error error) : error_(std::move(error)) {}
  const Error& error() const { return error_; }

 private:
  Error error_;
};

void must_queue(const Result<void>& done) {
  if (!done) throw CaptureError(done.error());
}

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;
using ExecutableGraph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyGraph>;

/// The graph that `queue` puts together on a stream. A capture that fails leaves the stream as it was.
template <class Queue>
Graph captured(cudaStream_t stream, Queue&& queue) {
  // Of this thread only: the client's and NCCL's threads may call CUDA meanwhile.
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    queue();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  return Graph(graph);
}

class StepGraph final : public ResidentSteps {
 public:
  StepGraph(const StepGround& ground, const ResidentPlan& plan)
      : ground_(ground),
        plan_(plan),
        pixels_(plan.images->images.size()),
        labels_(plan.images->labels.size()),
        order_(plan.most_positions),
        normalised_(kBytes),
        steps_(plan.most_steps),
        current_(1),
        next_(1),
        halted_(1),
        kept_(kStepsInFlight * plan.batch_size),
        net_(ground.stream, *ground.model, ground.precision, ground.streams, ground.algorithms) {
    upload(pixels_, plan.images->images);
    upload(labels_, plan.images->labels);
    std::array<float, kBytes> numbers{};
    for (std::size_t byte = 0; byte < kBytes; ++byte) {
      numbers[byte] = trainer::normalised(static_cast<std::uint8_t>(byte));
    }
    upload(normalised_, numbers);
    // A step on image 0 that is halted and changes no weight: it lets the driver load each kernel and the libraries
    // allocate what they need, which a capture may not allow.
    clear(order_);
    clear(steps_);
    clear(next_);
    CUDA_CHECK(cudaMemsetAsync(halted_.data(), 1, sizeof(int), stream()));
    next_step(current_.data(), steps_.data(), next_.data(), stream());
    queue_passes([](std::size_t) { return Result<void>(ok); });
    adamw(ground_.arrays, current_.data(), halted_.data(), stream());
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaStreamSynchronize(stream()));
    clear(halted_);
    CUDA_CHECK(cudaStreamSynchronize(stream()));
    capture();
  }

  ~StepGraph() override { cudaStreamSynchronize(stream()); }

  Result<void> begin(std::span<const std::uint32_t> order, std::span<const ResidentStep> steps) override {
    if (order.size() > plan_.most_positions || steps.size() > plan_.most_steps || unseen_ > 0) {
      return make_error(Errc::internal, fmt::format("{} steps on {} images, {} steps before were not looked at",
                                                    steps.size(), order.size(), unseen_));
    }
    std::vector<StepNumbers> numbers;
    numbers.reserve(steps.size());
    for (const ResidentStep& step : steps) {
      numbers.push_back({.first_position = step.first_position,
                         .first_sample = step.first_sample,
                         .slot = numbers.size() % kStepsInFlight,
                         .adamw = adamw_numbers(ground_.adamw, step.optimizer_step, step.learning_rate)});
    }
    return without_exceptions([&] {
      upload(order_, order);
      upload(steps_, numbers);
      clear(next_);
      CUDA_CHECK(cudaStreamSynchronize(stream()));
      given_ = steps.size();
      launched_ = 0;
    });
  }

  Result<void> launch() override {
    if (launched_ == given_ || unseen_ == kStepsInFlight) {
      return make_error(Errc::internal, fmt::format("step {} of {} cannot be launched, {} wait to be looked at",
                                                    launched_ + 1, given_, unseen_));
    }
    return without_exceptions([&] {
      CUDA_CHECK(cudaGraphLaunch(executable_.get(), stream()));
      ++launched_;
      ++unseen_;
    });
  }

  Result<std::vector<double>> collect() override {
    if (auto drained = plan_.drained(); !drained) return drained.error();
    return without_exceptions([&] {
      std::vector<float> host(kept_.size());
      CUDA_CHECK(
          cudaMemcpyAsync(host.data(), kept_.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost, stream()));
      CUDA_CHECK(cudaStreamSynchronize(stream()));
      std::vector<double> losses;
      for (std::size_t step = launched_ - unseen_; step < launched_; ++step) {
        const auto first = host.begin() + static_cast<std::ptrdiff_t>(step % kStepsInFlight * plan_.batch_size);
        const auto last = first + static_cast<std::ptrdiff_t>(plan_.batch_size);
        losses.push_back(std::accumulate(first, last, 0.0) / static_cast<double>(plan_.batch_size));
      }
      unseen_ = 0;
      return losses;
    });
  }

 private:
  static constexpr std::size_t kBytes = 256;  // values of one

  cudaStream_t stream() const { return ground_.stream; }

  template <class T, class Values>
  void upload(const DeviceArray<T>& to, const Values& from) {
    CUDA_CHECK(cudaMemcpyAsync(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, stream()));
  }
  template <class T>
  void clear(const DeviceArray<T>& array) {
    CUDA_CHECK(cudaMemsetAsync(array.data(), 0, array.size() * sizeof(T), stream()));
  }

  /// Forward and backward of the step that `current_` is.
  void queue_passes(const GradientReady& ready) {
    const ResidentImages images = {
        .pixels = pixels_.data(), .labels = labels_.data(), .order = order_.data(), .normalised = normalised_.data()};
    const KeptLosses keep = {
        .current = current_.data(), .kept = kept_.data(), .halted = plan_.halts ? halted_.data() : nullptr};
    net_.forward(ground_.arrays.parameters, images, keep, plan_.sample_stride, plan_.batch_size, ground_.dropout);
    net_.backward(ground_.gradient, [&](std::size_t index) { must_queue(ready(index)); });
  }

  void capture() {
    graph_ = captured(stream(), [&] {
      next_step(current_.data(), steps_.data(), next_.data(), stream());
      queue_passes(plan_.ready);
      must_queue(plan_.averaged());
      adamw(ground_.arrays, current_.data(), halted_.data(), stream());
      CUDA_CHECK(cudaGetLastError());
    });
    cudaGraphExec_t executable = nullptr;
    CUDA_CHECK(cudaGraphInstantiateWithFlags(&executable, graph_.get(), 0));
    executable_.reset(executable);
  }

  StepGround ground_;
  ResidentPlan plan_;
  DeviceArray<std::uint8_t> pixels_, labels_;
  DeviceArray<std::uint32_t> order_;
  DeviceArray<float> normalised_;
  DeviceArray<StepNumbers> steps_, current_;
  DeviceArray<std::uint64_t> next_;  // of steps_
  DeviceArray<int> halted_;          // 1: a loss was not finite, and the weights stay what they are
  DeviceArray<float> kept_;          // (kStepsInFlight, B), the losses of the last steps
  Network net_;
  Graph graph_;
  ExecutableGraph executable_;
  std::size_t given_ = 0, launched_ = 0, unseen_ = 0;  // steps since `begin`; the last of them without a look
};

}  // namespace

AdamWStep adamw_numbers(const AdamWOptions& options, std::uint64_t step, double learning_rate) {
  const auto t = static_cast<double>(step);
  return {
      .decay = static_cast<float>(1 - learning_rate * options.weight_decay),
      .share1 = static_cast<float>(1 - options.beta1),
      .beta2 = static_cast<float>(options.beta2),
      .share2 = static_cast<float>(1 - options.beta2),
      .epsilon = static_cast<float>(options.epsilon),
      .step_size = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, t))),
      .root_correction = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, t))),
  };
}

Result<std::unique_ptr<ResidentSteps>> make_step_graph(const StepGround& ground, const ResidentPlan& plan) {
  try {
    return std::unique_ptr<ResidentSteps>(std::make_unique<StepGraph>(ground, plan));
  } catch (const CaptureError& e) {
    return e.error();
  } catch (const DeviceError& e) {
    cudaGetLastError();  // told; the next call is not to tell it again
    return e.error();
  }
}

}  // namespace llmlaunch::trainer::cuda
