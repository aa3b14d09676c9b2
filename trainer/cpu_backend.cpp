// `Backend` on the CPU: the flat arrays, a network per batch size, AdamW. The border of oneDNN: what it throws inside
// becomes a result here.
#include "trainer/cpu_backend.hpp"

#include <dnnl.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <functional>
#include <map>
#include <new>
#include <type_traits>
#include <utility>

#include "trainer/compute_threads.hpp"
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
auto without_exceptions(const Model& model, std::size_t count, Body&& body) -> Result<std::invoke_result_t<Body>> {
  const auto no_memory = [&] {
    if (count == 0) {
      return make_error(Errc::out_of_resources,
                        fmt::format("no memory for {}: parameters, gradient and AdamW's moments take {} bytes",
                                    model.title, 4 * model.values * sizeof(float)),
                        {}, "'ulimit -v' and the cgroup's memory.max set how much there may be");
    }
    return make_error(Errc::out_of_resources,
                      fmt::format("no memory for {} with a batch of {} images", model.title, count), {},
                      "use a smaller --per_device_train_batch_size");
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

const char* math_text(CpuMath math) {
  switch (math) {
    case CpuMath::fp32: return "";
    case CpuMath::bf16: return ", bf16";
    case CpuMath::emulated_bf16: return ", bf16 without instructions for it: slower than fp32";
    case CpuMath::emulated_fp16: return ", fp16 by rounding floats: slower than fp32";
  }
  return "";
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Model& model, const AdamWOptions& adamw, const DropoutOptions& dropout, std::uint32_t threads,
             CpuMath math)
      : model_(model),
        adamw_(adamw),
        dropout_(dropout),
        threads_(threads),
        device_{.math = math},
        parameters_(model.values),
        gradient_(model.values),
        first_moment_(model.values),
        second_moment_(model.values) {}

  std::string description() const override {
    const dnnl_version_t& version = *dnnl_version();
    return fmt::format("cpu (oneDNN {}.{}.{}, {} thread{}{})", version.major, version.minor, version.patch, threads_,
                       threads_ == 1 ? "" : "s", math_text(device_.math));
  }

  const Model& model() const override { return model_; }
  std::span<float> parameters() override { return parameters_; }
  std::span<float> gradient() override { return gradient_; }

  Result<void> load_parameters(std::span<const float> host) override {
    if (host.size() != model_.values) {
      return make_error(Errc::invalid_argument,
                        fmt::format("{} parameters; {} has {}", host.size(), model_.title, model_.values));
    }
    std::copy(host.begin(), host.end(), parameters_.begin());
    return ok;
  }
  Result<std::vector<float>> copy_parameters() override { return parameters_; }

  Result<void> load_moments(const Moments& host) override {
    if (host.first.size() != model_.values || host.second.size() != model_.values) {
      return make_error(Errc::invalid_argument, fmt::format("moments of {} and {} values; {} has {}", host.first.size(),
                                                            host.second.size(), model_.title, model_.values));
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
    if (auto made = try_threads(); !made) return made.error();
    const GradientReady add_and_report = [&](std::size_t index) -> Result<void> {
      const Parameter& tensor = model_.parameters[index];
      for (std::size_t i = tensor.first; i < tensor.first + tensor.count; ++i) gradient_[i] += fresh_[i];
      return ready(index);
    };
    Result<void> reported = ok;
    auto result = without_exceptions(model_, batch.labels.size(), [&] {
      CpuNetwork& network = network_for(batch.labels.size());
      const BatchResult sums = network.forward(parameters_.data(), batch, {.on = dropout_.on, .seed = dropout_.seed});
      if (use.accumulate) {
        fresh_.resize(model_.values);
        reported = network.backward(batch, use.scale, fresh_.data(), add_and_report);
      } else {
        reported = network.backward(batch, use.scale, gradient_.data(), ready);
      }
      return sums;
    });
    if (!reported) return reported.error();
    return result;
  }

  Result<double> gradient_norm() override { return norm_of(gradient_); }

  Result<void> clip_gradient(double norm, double max_norm) override {
    const float factor = clip_factor(norm, max_norm);
    for (float& value : gradient_) value *= factor;
    return ok;
  }

  Result<double> unscale_gradient(float factor) override { return scale_by(gradient_, factor); }

  void use_adamw(const AdamWOptions& adamw) override { adamw_ = adamw; }

  Result<void> optimizer_step(std::uint64_t step, double learning_rate) override {
    adamw_step(parameters_, first_moment_, second_moment_, gradient_, adamw_, learning_rate, step);
    return ok;
  }

  Result<BatchResult> evaluate(const Batch& batch) override {
    BatchResult sums;
    const auto add = [&](const BatchResult& part, const CpuNetwork&) {
      sums.loss_sum += part.loss_sum;
      sums.correct += part.correct;
      sums.count += part.count;
    };
    if (auto done = forward_in_pieces(batch, add); !done) return done.error();
    return sums;
  }

  Result<std::vector<float>> predict(const Batch& batch) override {
    std::vector<float> logits;
    logits.reserve(batch.labels.size() * kClasses);
    const auto add = [&](const BatchResult&, const CpuNetwork& network) {
      logits.insert(logits.end(), network.logits().begin(), network.logits().end());
    };
    if (auto done = forward_in_pieces(batch, add); !done) return done.error();
    return logits;
  }

 private:
  /// `use` is told of each piece, in order.
  Result<void> forward_in_pieces(const Batch& batch,
                                 const std::function<void(const BatchResult&, const CpuNetwork&)>& use) {
    if (auto good = check(batch); !good) return good;
    if (auto made = try_threads(); !made) return made;
    const auto done = without_exceptions(model_, batch.labels.size(), [&] {
      for (std::size_t first = 0; first < batch.labels.size(); first += kEvaluationPiece) {
        const std::size_t count = std::min(kEvaluationPiece, batch.labels.size() - first);
        const Batch piece = {.images = batch.images.subspan(first * kImage, count * kImage),
                             .labels = batch.labels.subspan(first, count)};
        CpuNetwork& network = network_for(count);
        use(network.forward(parameters_.data(), piece, {}), network);
      }
      return true;
    });
    if (!done) return done.error();
    return ok;
  }

  /// Before the first pass, when all other threads of the rank are there.
  Result<void> try_threads() {
    if (threads_tried_) return ok;
    auto made = try_compute_threads(threads_);
    threads_tried_ = made.has_value();
    return made;
  }

  /// OpenMP keeps its number of threads per calling thread, and oneDNN plans for it when it makes a primitive.
  CpuNetwork& network_for(std::size_t batch) {
    omp_set_num_threads(static_cast<int>(threads_));
    const auto known = networks_.find(batch);
    if (known != networks_.end()) return *known->second;
    if (networks_.size() >= kKeptSizes) networks_.clear();
    return *networks_.emplace(batch, std::make_unique<CpuNetwork>(device_, model_, batch)).first->second;
  }

  const Model& model_;
  AdamWOptions adamw_;
  DropoutOptions dropout_;
  std::uint32_t threads_;
  bool threads_tried_ = false;
  CpuDevice device_;
  std::vector<float> parameters_, gradient_, first_moment_, second_moment_;
  std::vector<float> fresh_;  // of the pass that is to be added; empty until one is
  std::map<std::size_t, std::unique_ptr<CpuNetwork>> networks_;
};

}  // namespace

Result<CpuMath> cpu_math(Precision precision) {
  if (precision == Precision::fp32) return CpuMath::fp32;
  if (precision == Precision::tf32) {
    return make_error(Errc::unsupported, "--tf32: a CPU has no such numbers", {},
                      "leave it out, or see with --device cuda why no GPU is used; --bf16 and --fp16 work on CPUs");
  }
  if (precision == Precision::fp16) return CpuMath::emulated_fp16;  // oneDNN has it for no way back
  constexpr auto kNeeded = static_cast<unsigned>(dnnl_cpu_isa_avx512_core_bf16);
  const auto there = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  return (there & kNeeded) == kNeeded ? CpuMath::bf16 : CpuMath::emulated_bf16;
}

Result<std::unique_ptr<Backend>> make_cpu_backend(const Model& model, const AdamWOptions& adamw,
                                                  const DropoutOptions& dropout, std::uint32_t threads, CpuMath math) {
  if (threads == 0) return make_error(Errc::invalid_argument, "0 compute threads", {}, "--threads is at least 1");
  return without_exceptions(
      model, 0, [&] { return std::unique_ptr<Backend>(new CpuBackend(model, adamw, dropout, threads, math)); });
}

}  // namespace llmlaunch::trainer
