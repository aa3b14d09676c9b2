// `Backend` on a GPU: the flat arrays in its memory, a network's passes and AdamW on one stream. The border of
// trainer/cuda/: what the checks throw inside becomes a result here.
#include "trainer/cuda/cuda_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "rendezvous/base/counted.hpp"
#include "trainer/cuda/check.hpp"
#include "trainer/cuda/convolution.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/kernels.hpp"
#include "trainer/cuda/nccl_comm.hpp"
#include "trainer/cuda/network.hpp"
#include "trainer/cuda/step_graph.hpp"
#include "trainer/cuda/stream.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

/// A checkpoint that goes on with other algorithms goes on with other bits, and is compared by the device's words.
std::string named_if_others(const ConvolutionAlgorithms& algorithms) {
  if (algorithms == ConvolutionAlgorithms()) return {};
  return fmt::format(", cuDNN's algorithms {},{},{}", algorithms.forward, algorithms.backward_data,
                     algorithms.backward_filter);
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, const Model& model, const AdamWOptions& adamw, const DropoutOptions& dropout,
              Precision precision, GraphStreams graph_streams, const ConvolutionAlgorithms& algorithms)
      : model_(model),
        adamw_(adamw),
        dropout_(dropout),
        precision_(precision),
        graph_streams_(graph_streams),
        algorithms_(algorithms),
        parameters_(model.values),
        gradient_(model.values),
        first_moment_(model.values),
        second_moment_(model.values),
        net_(stream_.handle(), model, precision, GraphStreams::one, algorithms) {
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    description_ = fmt::format("cuda:{} ({}, {} GiB{}{})", device, properties.name, properties.totalGlobalMem >> 30U,
                               precision == Precision::fp32 ? "" : fmt::format(", {}", precision_name(precision)),
                               named_if_others(algorithms));
    for (const DeviceArray<float>* moment : {&first_moment_, &second_moment_}) {
      CUDA_CHECK(cudaMemsetAsync(moment->data(), 0, model.values * sizeof(float), stream_.handle()));
    }
  }

  /// What is queued still works on the arrays.
  ~CudaBackend() override { cudaStreamSynchronize(stream_.handle()); }

  std::string description() const override { return description_; }
  const Model& model() const override { return model_; }
  std::span<float> parameters() override { return parameters_.span(); }
  std::span<float> gradient() override { return gradient_.span(); }
  cudaStream_t stream() const { return stream_.handle(); }

  Result<void> load_parameters(std::span<const float> host) override {
    if (auto fits = check_size(host); !fits) return fits;
    return without_exceptions([&] {
      queue_upload(parameters_, host);
      CUDA_CHECK(cudaStreamSynchronize(stream()));
    });
  }

  Result<std::vector<float>> copy_parameters() override {
    return without_exceptions([&] {
      std::vector<float> host = queue_download(parameters_);
      CUDA_CHECK(cudaStreamSynchronize(stream()));
      return host;
    });
  }

  Result<void> synchronize() override {
    return without_exceptions([&] { CUDA_CHECK(cudaStreamSynchronize(stream())); });
  }

  Result<void> load_moments(const Moments& host) override {
    for (const auto* moment : {&host.first, &host.second}) {
      if (auto fits = check_size(*moment); !fits) return fits;
    }
    return without_exceptions([&] {
      queue_upload(first_moment_, host.first);
      queue_upload(second_moment_, host.second);
      CUDA_CHECK(cudaStreamSynchronize(stream()));
    });
  }

  Result<Moments> copy_moments() override {
    return without_exceptions([&] {
      Moments host{queue_download(first_moment_), queue_download(second_moment_)};
      CUDA_CHECK(cudaStreamSynchronize(stream()));
      return host;
    });
  }

  std::array<std::span<float>, 2> moments() override { return {first_moment_.span(), second_moment_.span()}; }

  Result<BatchResult> forward_backward(const Batch& batch, const GradientUse& use,
                                       const GradientReady& ready) override {
    Result<void> reported = ok;
    auto result = without_exceptions([&] {
      if (use.accumulate) fresh_.reserve(model_.values);
      float* const target = use.accumulate ? fresh_.data() : gradient_.data();
      net_.forward(parameters_.data(), batch, {.on = dropout_.on, .seed = dropout_.seed}, use.scale);
      net_.backward(target, [&](std::size_t index) {
        const Parameter& tensor = model_.parameters[index];
        if (use.accumulate) add(gradient_.data() + tensor.first, fresh_.data() + tensor.first, tensor.count, stream());
        if (reported) reported = ready(index);
      });
      return batch_result(batch);
    });
    if (!reported) return reported.error();
    return result;
  }

  Result<double> gradient_norm() override {
    return without_exceptions([&] { return norm(); });
  }

  Result<void> clip_gradient(double norm, double max_norm) override {
    return without_exceptions([&] {
      scale(gradient_.data(), clip_factor(norm, max_norm), model_.values, stream());
      CUDA_CHECK(cudaGetLastError());
    });
  }

  Result<double> unscale_gradient(float factor) override {
    return without_exceptions([&] {
      square_sums_.reserve(kSquareSums);
      scale_and_sum_squares(square_sums_.data(), gradient_.data(), factor, model_.values, stream());
      return root_of_sums();
    });
  }

  void use_adamw(const AdamWOptions& options) override { adamw_ = options; }

  Result<void> optimizer_step(std::uint64_t step, double learning_rate) override {
    return without_exceptions([&] {
      adamw(arrays(), adamw_numbers(adamw_, step, learning_rate), stream());
      CUDA_CHECK(cudaGetLastError());
    });
  }

  Result<BatchResult> evaluate(const Batch& batch) override {
    return without_exceptions([&] {
      net_.forward(parameters_.data(), batch, {});
      return batch_result(batch);
    });
  }

  Result<std::vector<float>> predict(const Batch& batch) override {
    return without_exceptions([&] {
      net_.forward(parameters_.data(), batch, {});
      return net_.logits();
    });
  }

  Result<std::unique_ptr<ResidentSteps>> make_resident(const ResidentPlan& plan) override {
    return make_step_graph({.stream = stream(),
                            .model = &model_,
                            .precision = precision_,
                            .streams = graph_streams_,
                            .algorithms = algorithms_,
                            .adamw = adamw_,
                            .dropout = {.on = dropout_.on, .seed = dropout_.seed},
                            .arrays = arrays(),
                            .gradient = gradient_.data()},
                           plan);
  }

 private:
  AdamWArrays arrays() const {
    return {.parameters = parameters_.data(),
            .first_moment = first_moment_.data(),
            .second_moment = second_moment_.data(),
            .gradient = gradient_.data(),
            .count = model_.values};
  }

  Result<void> check_size(std::span<const float> host) const {
    if (host.size() == model_.values) return ok;
    return make_error(Errc::invalid_argument,
                      fmt::format("{} values; {} has {}", host.size(), model_.title, model_.values));
  }

  /// Waits for the stream.
  double norm() {
    square_sums_.reserve(kSquareSums);
    sum_squares(square_sums_.data(), gradient_.data(), model_.values, stream());
    return root_of_sums();
  }

  /// Of the queued sums of squares. Waits for the stream.
  double root_of_sums() {
    CUDA_CHECK(cudaGetLastError());  // a kernel that was not started has left no sums
    std::vector<double> sums(kSquareSums);
    CUDA_CHECK(cudaMemcpyAsync(sums.data(), square_sums_.data(), kSquareSums * sizeof(double), cudaMemcpyDeviceToHost,
                               stream()));
    CUDA_CHECK(cudaStreamSynchronize(stream()));
    return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
  }

  void queue_upload(const DeviceArray<float>& to, std::span<const float> host) {
    CUDA_CHECK(cudaMemcpyAsync(to.data(), host.data(), host.size_bytes(), cudaMemcpyHostToDevice, stream()));
  }

  std::vector<float> queue_download(const DeviceArray<float>& from) {
    std::vector<float> host(model_.values);
    CUDA_CHECK(
        cudaMemcpyAsync(host.data(), from.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost, stream()));
    return host;
  }

  BatchResult batch_result(const Batch& batch) {
    const auto sums = net_.results();
    return {.loss_sum = sums.loss_sum, .correct = sums.correct, .count = batch.labels.size()};
  }

  const Model& model_;
  AdamWOptions adamw_;
  DropoutOptions dropout_;
  Precision precision_;
  GraphStreams graph_streams_;
  ConvolutionAlgorithms algorithms_;
  std::string description_;
  Stream stream_;
  DeviceArray<float> parameters_, gradient_, first_moment_, second_moment_;
  DeviceArray<float> fresh_;         // the gradient of a pass that is to be added
  DeviceArray<double> square_sums_;  // for the gradient's norm
  Network net_;
};

Result<int> device_count() {
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) {
    return make_error(Errc::unsupported, fmt::format("cudaGetDeviceCount: {}", cudaGetErrorString(code)));
  }
  if (count == 0) return make_error(Errc::unsupported, "cudaGetDeviceCount: no device is visible");
  return count;
}

/// The device of this rank. One visible device is the launcher's choice for this rank.
Result<int> device_of(const World& world) {
  const auto count = device_count();
  if (!count) return count.error();
  const int wanted = static_cast<int>(world.local_rank);
  if (*count == 1) return 0;
  if (wanted < *count) return wanted;
  return make_error(Errc::unsupported,
                    fmt::format("{} ranks on this host, but only {} {} visible", world.local_world_size,
                                counted(static_cast<std::uint64_t>(*count), "GPU"), *count == 1 ? "is" : "are"),
                    fmt::format("rank {} on {}", world.rank, world.host),
                    "start at most one rank per GPU (slots in the YAML), or see CUDA_VISIBLE_DEVICES");
}

/// Tensor cores take TF32 and bfloat16 from Ampere on, halves from Volta on.
Result<void> check_precision(int device, Precision precision) {
  if (precision == Precision::fp32) return ok;
  const bool is_fp16 = precision == Precision::fp16;
  const int needed = is_fp16 ? 7 : 8;
  int major = 0;
  if (const cudaError_t code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
      code != cudaSuccess) {
    return make_error(Errc::unsupported, fmt::format("cudaDeviceGetAttribute: {}", cudaGetErrorString(code)));
  }
  if (major >= needed) return ok;
  return make_error(Errc::unsupported,
                    fmt::format("--{} needs a GPU of compute capability {} ({}) or newer; this one has {}",
                                precision_name(precision), needed, is_fp16 ? "Volta" : "Ampere", major),
                    {}, "leave it out; mixed_precision of the YAML counts as it, too");
}

Result<std::unique_ptr<CudaBackend>> make_backend(const World& world, const Model& model, const AdamWOptions& adamw,
                                                  const DropoutOptions& dropout, Precision precision,
                                                  GraphStreams graph_streams, const ConvolutionAlgorithms& algorithms) {
  const auto device = device_of(world);
  if (!device) return device.error();
  if (auto can = check_precision(*device, precision); !can) return can.error();
  set_identity({.rank = world.rank, .host = world.host, .device = *device});
  return without_exceptions([&] {
    CUDA_CHECK(cudaSetDevice(*device));
    return std::make_unique<CudaBackend>(*device, model, adamw, dropout, precision, graph_streams, algorithms);
  });
}

}  // namespace

Result<int> probe() {
  // Without any driver the runtime calls it too old.
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return make_error(Errc::unsupported, "no NVIDIA driver is loaded on this host");
  }
  if (const auto count = device_count(); !count) return count.error();
  if (auto loaded = load_cublas(); !loaded) return loaded.error();
  if (auto loaded = load_cudnn(); !loaded) return loaded.error();
  if (auto loaded = load_nccl(); !loaded) return loaded.error();
  int version = 0;
  nccl().ncclGetVersion(&version);
  return version;
}

Result<std::unique_ptr<Backend>> make_cuda_backend(const World& world, const Model& model, const AdamWOptions& adamw,
                                                   const DropoutOptions& dropout, Precision precision,
                                                   GraphStreams graph_streams,
                                                   const ConvolutionAlgorithms& algorithms) {
  auto backend = make_backend(world, model, adamw, dropout, precision, graph_streams, algorithms);
  if (!backend) return backend.error();
  return std::unique_ptr<Backend>(std::move(*backend));
}

Result<void> copy_to_host(std::span<float> host, std::span<const float> device) {
  return without_exceptions([&] {
    CUDA_CHECK(cudaDeviceSynchronize());  // a backend's stream does not wait for the copy's, nor that for it
    CUDA_CHECK(cudaMemcpy(host.data(), device.data(), host.size_bytes(), cudaMemcpyDeviceToHost));
  });
}

Result<Engine> make_engine(World& world, const Model& model, const AdamWOptions& adamw, const DropoutOptions& dropout,
                           Precision precision, GraphStreams graph_streams, const ConvolutionAlgorithms& algorithms,
                           std::chrono::milliseconds collective_timeout) {
  auto backend = make_backend(world, model, adamw, dropout, precision, graph_streams, algorithms);
  if (!backend) return backend.error();
  Engine engine;
  if (world.world_size == 1) {
    engine.comm = std::make_unique<LocalComm>();
  } else {
    const NcclOptions options{.connect_timeout = std::min(world.client->options().timeout, collective_timeout),
                              .timeout = collective_timeout};
    auto comm = make_nccl_comm(*world.client, (*backend)->stream(), options);
    if (!comm) return comm.error();
    engine.comm = std::move(*comm);
  }
  engine.backend = std::move(*backend);
  return engine;
}

}  // namespace llmlaunch::trainer::cuda
