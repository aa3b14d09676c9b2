// `Backend` on a GPU: the flat arrays in its memory, BasicNet's passes and AdamW on one stream. The border of
// trainer/cuda/: what the checks throw inside becomes a result here.
#include "trainer/cuda/cuda_backend.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "trainer/cuda/basic_net.hpp"
#include "trainer/cuda/check.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/kernels.hpp"
#include "trainer/cuda/nccl_comm.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

constexpr ParameterOffsets kOffsets = {
    .conv1_weight = kParameters[0].first,
    .conv1_bias = kParameters[1].first,
    .conv2_weight = kParameters[2].first,
    .conv2_bias = kParameters[3].first,
    .fc1_weight = kParameters[4].first,
    .fc1_bias = kParameters[5].first,
    .fc2_weight = kParameters[6].first,
    .fc2_bias = kParameters[7].first,
};

/// A stream that goes with its owner.
class Stream {
 public:
  Stream() { CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, const AdamWOptions& adamw, const DropoutOptions& dropout)
      : adamw_(adamw),
        dropout_(dropout),
        parameters_(kParameterValues),
        gradient_(kParameterValues),
        first_moment_(kParameterValues),
        second_moment_(kParameterValues),
        net_(stream_.handle(), kOffsets) {
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    description_ = fmt::format("cuda:{} ({}, {} GiB)", device, properties.name, properties.totalGlobalMem >> 30U);
    for (const DeviceArray<float>* moment : {&first_moment_, &second_moment_}) {
      CUDA_CHECK(cudaMemsetAsync(moment->data(), 0, kParameterValues * sizeof(float), stream_.handle()));
    }
  }

  std::string description() const override { return description_; }
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
      if (use.accumulate) fresh_.reserve(kParameterValues);
      float* const target = use.accumulate ? fresh_.data() : gradient_.data();
      net_.forward(parameters_.data(), batch.images, batch.labels,
                   {.on = dropout_.on,
                    .seed = dropout_.seed,
                    .first_sample = batch.samples.first,
                    .sample_stride = batch.samples.stride});
      net_.backward(parameters_.data(), use.scale, target, [&](int layer) {
        // Bias before weight, as automatic differentiation finishes them.
        for (const std::size_t index : {2 * static_cast<std::size_t>(layer) + 1, 2 * static_cast<std::size_t>(layer)}) {
          const Parameter& tensor = kParameters[index];
          if (use.accumulate)
            add(gradient_.data() + tensor.first, fresh_.data() + tensor.first, tensor.count, stream());
          if (reported) reported = ready(index);
        }
      });
      return batch_result(batch);
    });
    if (!reported) return reported.error();
    return result;
  }

  Result<double> gradient_norm() override {
    return without_exceptions([&] { return norm(); });
  }

  Result<double> clip_gradient(double max_norm) override {
    return without_exceptions([&] {
      const double before = norm();
      scale(gradient_.data(), clip_factor(before, max_norm), kParameterValues, stream());
      CUDA_CHECK(cudaGetLastError());
      return before;
    });
  }

  void use_adamw(const AdamWOptions& options) override { adamw_ = options; }

  Result<void> optimizer_step(std::uint64_t step, double learning_rate) override {
    return without_exceptions([&] {
      // The corrections in double on the host, as PyTorch.
      const auto t = static_cast<double>(step);
      const AdamWStep numbers = {
          .decay = static_cast<float>(1 - learning_rate * adamw_.weight_decay),
          .share1 = static_cast<float>(1 - adamw_.beta1),
          .beta2 = static_cast<float>(adamw_.beta2),
          .share2 = static_cast<float>(1 - adamw_.beta2),
          .epsilon = static_cast<float>(adamw_.epsilon),
          .step_size = static_cast<float>(learning_rate / (1 - std::pow(adamw_.beta1, t))),
          .root_correction = static_cast<float>(std::sqrt(1 - std::pow(adamw_.beta2, t))),
      };
      adamw(parameters_.data(), first_moment_.data(), second_moment_.data(), gradient_.data(), kParameterValues,
            numbers, stream());
      CUDA_CHECK(cudaGetLastError());
    });
  }

  Result<BatchResult> evaluate(const Batch& batch) override {
    return without_exceptions([&] {
      net_.forward(parameters_.data(), batch.images, batch.labels, {});
      return batch_result(batch);
    });
  }

 private:
  static Result<void> check_size(std::span<const float> host) {
    if (host.size() == kParameterValues) return ok;
    return make_error(Errc::invalid_argument, fmt::format("{} values; BasicNet has {}", host.size(), kParameterValues));
  }

  /// Waits for the stream.
  double norm() {
    std::vector<double> sums(kSquareSums);
    square_sums_.reserve(kSquareSums);
    sum_squares(square_sums_.data(), gradient_.data(), kParameterValues, stream());
    CUDA_CHECK(cudaMemcpyAsync(sums.data(), square_sums_.data(), kSquareSums * sizeof(double), cudaMemcpyDeviceToHost,
                               stream()));
    CUDA_CHECK(cudaStreamSynchronize(stream()));
    return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
  }

  void queue_upload(const DeviceArray<float>& to, std::span<const float> host) {
    CUDA_CHECK(cudaMemcpyAsync(to.data(), host.data(), host.size_bytes(), cudaMemcpyHostToDevice, stream()));
  }

  std::vector<float> queue_download(const DeviceArray<float>& from) {
    std::vector<float> host(kParameterValues);
    CUDA_CHECK(
        cudaMemcpyAsync(host.data(), from.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost, stream()));
    return host;
  }

  BatchResult batch_result(const Batch& batch) {
    const auto sums = net_.results();
    return {.loss_sum = sums.loss_sum, .correct = sums.correct, .count = batch.labels.size()};
  }

  AdamWOptions adamw_;
  DropoutOptions dropout_;
  std::string description_;
  Stream stream_;
  DeviceArray<float> parameters_, gradient_, first_moment_, second_moment_;
  DeviceArray<float> fresh_;         // the gradient of a pass that is to be added
  DeviceArray<double> square_sums_;  // for the gradient's norm
  BasicNet net_;
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
                    fmt::format("{} ranks on this host, but only {} GPUs are visible", world.local_world_size, *count),
                    fmt::format("rank {} on {}", world.rank, world.host),
                    "start at most one rank per GPU (slots in the YAML), or see CUDA_VISIBLE_DEVICES");
}

Result<std::unique_ptr<CudaBackend>> make_backend(const World& world, const AdamWOptions& adamw,
                                                  const DropoutOptions& dropout) {
  const auto device = device_of(world);
  if (!device) return device.error();
  set_identity({.rank = world.rank, .host = world.host, .device = *device});
  return without_exceptions([&] {
    CUDA_CHECK(cudaSetDevice(*device));
    return std::make_unique<CudaBackend>(*device, adamw, dropout);
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

Result<std::unique_ptr<Backend>> make_cuda_backend(const World& world, const AdamWOptions& adamw,
                                                   const DropoutOptions& dropout) {
  auto backend = make_backend(world, adamw, dropout);
  if (!backend) return backend.error();
  return std::unique_ptr<Backend>(std::move(*backend));
}

Result<void> copy_to_host(std::span<float> host, std::span<const float> device) {
  return without_exceptions(
      [&] { CUDA_CHECK(cudaMemcpy(host.data(), device.data(), host.size_bytes(), cudaMemcpyDeviceToHost)); });
}

Result<Engine> make_engine(World& world, const AdamWOptions& adamw, const DropoutOptions& dropout,
                           std::chrono::milliseconds collective_timeout) {
  auto backend = make_backend(world, adamw, dropout);
  if (!backend) return backend.error();
  Engine engine;
  if (world.world_size == 1) {
    engine.comm = std::make_unique<LocalComm>();
  } else {
    const NcclOptions options{.connect_timeout = world.client->options().timeout, .timeout = collective_timeout};
    auto comm = make_nccl_comm(*world.client, (*backend)->stream(), options);
    if (!comm) return comm.error();
    engine.comm = std::move(*comm);
  }
  engine.backend = std::move(*backend);
  return engine;
}

}  // namespace llmlaunch::trainer::cuda
