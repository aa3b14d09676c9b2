// `Backend` on the CPU: the flat arrays, a network per batch size, AdamW. The border of oneDNN: what it throws inside
// becomes a result here.
#include "trainer/cpu_backend.hpp"

#include <dnnl.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <new>
#include <type_traits>
#include <utility>

#include "trainer/cpu_kernels.hpp"
#include "trainer/cpu_network.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::size_t kImage = 28 * 28;

/// Evaluation goes in pieces of so many images: small enough for the caches, and no more memory than a training step.
constexpr std::size_t kEvaluationPiece = 64;

/// Sizes whose primitives and activations are kept: training's, its last batch's, evaluation's two.
constexpr std::size_t kKeptSizes = 4;

/// Runs `body`; what the libraries throw becomes an error. `count`: images of the batch, 0 outside of a pass.
template <class Body>
auto without_exceptions(std::size_t count, Body&& body) -> Result<std::invoke_result_t<Body>> {
  const auto no_memory = [&] {
    return make_error(Errc::out_of_resources, fmt::format("no memory for BasicNet with a batch of {} images", count),
                      {}, "use a smaller --per_device_train_batch_size");
  };
  try {
    return body();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) return no_memory();
    return make_error(
        e.status == dnnl_unimplemented ? Errc::unsupported : Errc::internal,
        fmt::format("oneDNN, batch of {} images: {} (status {})", count, e.what(), static_cast<int>(e.status)));
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Result<void> check(const Batch& batch) {
  if (batch.labels.empty()) return make_error(Errc::invalid_argument, "a batch without images");
  if (batch.images.size() != batch.labels.size() * kImage) {
    return make_error(Errc::invalid_argument,
                      fmt::format("a batch of {} labels and {} pixels, not {}", batch.labels.size(),
                                  batch.images.size(), batch.labels.size() * kImage));
  }
  const auto largest = std::max_element(batch.labels.begin(), batch.labels.end());
  if (*largest > 9) return make_error(Errc::invalid_argument, fmt::format("label {}; labels are 0 to 9", *largest));
  return ok;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const AdamWOptions& adamw, const DropoutOptions& dropout, std::uint32_t threads)
      : adamw_(adamw),
        dropout_(dropout),
        threads_(threads),
        parameters_(kParameterValues),
        gradient_(kParameterValues),
        first_moment_(kParameterValues),
        second_moment_(kParameterValues) {}

  std::string description() const override {
    const dnnl_version_t& version = *dnnl_version();
    return fmt::format("cpu (oneDNN {}.{}.{}, {} thread{})", version.major, version.minor, version.patch, threads_,
                       threads_ == 1 ? "" : "s");
  }

  std::span<float> parameters() override { return parameters_; }
  std::span<float> gradient() override { return gradient_; }

  Result<void> load_parameters(std::span<const float> host) override {
    if (host.size() != kParameterValues) {
      return make_error(Errc::invalid_argument,
                        fmt::format("{} parameters; BasicNet has {}", host.size(), kParameterValues));
    }
    std::copy(host.begin(), host.end(), parameters_.begin());
    return ok;
  }
  Result<std::vector<float>> copy_parameters() override { return parameters_; }

  Result<void> load_moments(const Moments& host) override {
    if (host.first.size() != kParameterValues || host.second.size() != kParameterValues) {
      return make_error(Errc::invalid_argument, fmt::format("moments of {} and {} values; BasicNet has {}",
                                                            host.first.size(), host.second.size(), kParameterValues));
    }
    first_moment_ = host.first;
    second_moment_ = host.second;
    return ok;
  }
  Result<Moments> copy_moments() override { return Moments{first_moment_, second_moment_}; }
  std::array<std::span<float>, 2> moments() override { return {first_moment_, second_moment_}; }

  Result<BatchResult> forward_backward(const Batch& batch, const GradientUse& use,
                                       const GradientReady& ready) override {
    if (auto good = check(batch); !good) return good.error();
    const GradientReady add_and_report = [&](std::size_t index) -> Result<void> {
      const Parameter& tensor = kParameters[index];
      for (std::size_t i = tensor.first; i < tensor.first + tensor.count; ++i) gradient_[i] += fresh_[i];
      return ready(index);
    };
    Result<void> reported = ok;
    auto result = without_exceptions(batch.labels.size(), [&] {
      CpuNetwork& network = network_for(batch.labels.size());
      const BatchResult sums = network.forward(parameters_.data(), batch, {.on = dropout_.on, .seed = dropout_.seed});
      if (use.accumulate) {
        fresh_.resize(kParameterValues);
        reported = network.backward(parameters_.data(), batch, use.scale, fresh_.data(), add_and_report);
      } else {
        reported = network.backward(parameters_.data(), batch, use.scale, gradient_.data(), ready);
      }
      return sums;
    });
    if (!reported) return reported.error();
    return result;
  }

  Result<double> gradient_norm() override { return norm_of(gradient_); }

  Result<double> clip_gradient(double max_norm) override {
    const double norm = norm_of(gradient_);
    const float factor = clip_factor(norm, max_norm);
    for (float& value : gradient_) value *= factor;
    return norm;
  }

  void use_adamw(const AdamWOptions& adamw) override { adamw_ = adamw; }

  Result<void> optimizer_step(std::uint64_t step, double learning_rate) override {
    adamw_step(parameters_, first_moment_, second_moment_, gradient_, adamw_, learning_rate, step);
    return ok;
  }

  Result<BatchResult> evaluate(const Batch& batch) override {
    if (auto good = check(batch); !good) return good.error();
    return without_exceptions(batch.labels.size(), [&] {
      BatchResult sums;
      for (std::size_t first = 0; first < batch.labels.size(); first += kEvaluationPiece) {
        const std::size_t count = std::min(kEvaluationPiece, batch.labels.size() - first);
        const Batch piece = {.images = batch.images.subspan(first * kImage, count * kImage),
                             .labels = batch.labels.subspan(first, count)};
        const BatchResult part = network_for(count).forward(parameters_.data(), piece, {});
        sums.loss_sum += part.loss_sum;
        sums.correct += part.correct;
        sums.count += part.count;
      }
      return sums;
    });
  }

 private:
  /// OpenMP keeps its number of threads per calling thread, and oneDNN plans for it when it makes a primitive.
  CpuNetwork& network_for(std::size_t batch) {
    omp_set_num_threads(static_cast<int>(threads_));
    const auto known = networks_.find(batch);
    if (known != networks_.end()) return *known->second;
    if (networks_.size() >= kKeptSizes) networks_.clear();
    return *networks_.emplace(batch, std::make_unique<CpuNetwork>(device_, batch)).first->second;
  }

  AdamWOptions adamw_;
  DropoutOptions dropout_;
  std::uint32_t threads_;
  CpuDevice device_;
  std::vector<float> parameters_, gradient_, first_moment_, second_moment_;
  std::vector<float> fresh_;  // of the pass that is to be added; empty until one is
  std::map<std::size_t, std::unique_ptr<CpuNetwork>> networks_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const AdamWOptions& adamw, const DropoutOptions& dropout,
                                                  std::uint32_t threads) {
  if (threads == 0) return make_error(Errc::invalid_argument, "0 compute threads", {}, "--threads is at least 1");
  return without_exceptions(0, [&] { return std::unique_ptr<Backend>(new CpuBackend(adamw, dropout, threads)); });
}

}  // namespace llmlaunch::trainer
