// The emulated device itself: that it finds what it is there to find, and that its libraries compute what theirs are
// defined to. And pieces of trainer/cuda/ in situations that the program does not bring about.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/cuda_host/block.hpp"
#include "tests/support/cuda_host/gemm.hpp"
#include "trainer/cuda/cuda_backend.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/kernels.hpp"
#include "trainer/dataset.hpp"
#include "trainer/init.hpp"

namespace emulated_device_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;
using cuda::DeviceArray;

namespace {

struct Stream {
  Stream() { REQUIRE(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking) == cudaSuccess); }
  ~Stream() {
    cudaStreamSynchronize(handle);
    cudaStreamDestroy(handle);
  }
  cudaStream_t handle = nullptr;
};

struct Event {
  Event() { REQUIRE(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming) == cudaSuccess); }
  ~Event() { cudaEventDestroy(handle); }
  cudaEvent_t handle = nullptr;
};

template <class T>
std::vector<T> host_copy(const DeviceArray<T>& array) {
  std::vector<T> host(array.size());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(cudaMemcpy(host.data(), array.data(), host.size() * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
  return host;
}

void upload(const DeviceArray<float>& to, const std::vector<float>& from) {
  REQUIRE(cudaMemcpy(to.data(), from.data(), from.size() * sizeof(float), cudaMemcpyHostToDevice) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 bits(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(bits() % 2001) / 1000.0F - 1.0F;
  return values;
}

/// How a process ends that does this: 0, or 128 + signal.
int fate_of(const std::function<void()>& function) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);  // Catch2's tells of it
    function();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void fill(const Stream& stream, const DeviceArray<std::uint8_t>& array, int value) {
  REQUIRE(cudaMemsetAsync(array.data(), value, array.size(), stream.handle) == cudaSuccess);
}

}  // namespace

TEST_CASE("what was not written is NaN, and an array is where the host cannot touch it") {
  const DeviceArray<float> array(3);
  for (const float value : host_copy(array)) CHECK(std::isnan(value));
  CHECK(fate_of([&] { array.data()[0] = 1; }) == 128 + SIGSEGV);
}

TEST_CASE("a kernel that goes beyond an array's end, or comes after it was freed, ends the process") {
  const Stream stream;
  const DeviceArray<float> array(64);  // a multiple of the alignment
  CHECK(fate_of([&] {
          cuda::scale(array.data(), 2, 64, stream.handle);
          cudaStreamSynchronize(stream.handle);
        }) == 0);
  CHECK(fate_of([&] {
          cuda::scale(array.data(), 2, 65, stream.handle);
          cudaStreamSynchronize(stream.handle);
        }) == 128 + SIGSEGV);
  CHECK(fate_of([&] {
          cuda::scale(array.data(), 2, 64, stream.handle);
          cudaFree(array.data());
          cudaStreamSynchronize(stream.handle);
        }) == 128 + SIGSEGV);
}

TEST_CASE("a stream does not see what another one does, but for an event's sake") {
  const DeviceArray<std::uint8_t> array(1);
  const Stream first;
  const Stream second;
  const Event event;
  fill(first, array, 1);
  REQUIRE(cudaEventRecord(event.handle, first.handle) == cudaSuccess);
  std::uint8_t host = 0;
  const auto download = [&] {
    REQUIRE(cudaMemcpyAsync(&host, array.data(), 1, cudaMemcpyDeviceToHost, second.handle) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(second.handle) == cudaSuccess);
  };
  download();
  CHECK(host == 0xff);
  REQUIRE(cudaStreamWaitEvent(second.handle, event.handle, 0) == cudaSuccess);
  download();
  CHECK(host == 1);
  while (cudaEventQuery(event.handle) == cudaErrorNotReady) cudaGetLastError();
  // The legacy stream waits for none that was made not to.
  fill(first, array, 2);
  REQUIRE(cudaMemcpy(&host, array.data(), 1, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(host == 1);
}

TEST_CASE("a graph is what was captured, on streams that came in by events, and runs when it is launched") {
  const DeviceArray<std::uint8_t> one(1);
  const DeviceArray<std::uint8_t> two(1);
  const Stream first;
  const Stream second;
  const Event event;
  REQUIRE(cudaStreamBeginCapture(first.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  fill(first, one, 1);
  REQUIRE(cudaEventRecord(event.handle, first.handle) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(second.handle, event.handle, 0) == cudaSuccess);
  fill(second, two, 2);
  REQUIRE(cudaEventRecord(event.handle, second.handle) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(first.handle, event.handle, 0) == cudaSuccess);
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(first.handle, &graph) == cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiateWithFlags(&executable, graph, 0) == cudaSuccess);
  CHECK(host_copy(one)[0] == 0xff);
  REQUIRE(cudaGraphLaunch(executable, first.handle) == cudaSuccess);
  CHECK(host_copy(one)[0] == 1);
  CHECK(host_copy(two)[0] == 2);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

TEST_CASE("what a capture forbids fails and ends it") {
  const DeviceArray<std::uint8_t> array(1);
  const Stream first;
  const Stream second;
  const Event event;
  cudaGraph_t graph = nullptr;
  void* memory = nullptr;
  REQUIRE(cudaEventRecord(event.handle, second.handle) == cudaSuccess);
  const std::vector<std::pair<const char*, std::function<cudaError_t()>>> calls = {
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(first.handle); }},
      {"of another stream", [&] { return cudaStreamSynchronize(second.handle); }},
      {"cudaDeviceSynchronize", [] { return cudaDeviceSynchronize(); }},
      {"cudaMalloc", [&] { return cudaMalloc(&memory, 1); }},
      {"cudaMemcpy", [&] { return cudaMemcpy(array.data(), "x", 1, cudaMemcpyHostToDevice); }},
      {"cudaEventQuery", [&] { return cudaEventQuery(event.handle); }},
      {"an event from outside", [&] { return cudaStreamWaitEvent(first.handle, event.handle, 0); }},
  };
  for (const auto& [name, call] : calls) {
    CAPTURE(name);
    REQUIRE(cudaStreamBeginCapture(first.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    fill(first, array, 1);
    CHECK(call() != cudaSuccess);
    CHECK(cudaStreamEndCapture(first.handle, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
  }
  REQUIRE(cudaStreamBeginCapture(first.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  REQUIRE(cudaEventRecord(event.handle, first.handle) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(second.handle, event.handle, 0) == cudaSuccess);
  fill(second, array, 1);
  CHECK(cudaStreamEndCapture(first.handle, &graph) == cudaErrorStreamCaptureUnjoined);
  cudaGetLastError();
  CHECK(cudaStreamSynchronize(first.handle) == cudaSuccess);
}

TEST_CASE("what nobody has used before may have to be loaded, which ends a capture") {
  const DeviceArray<double> sums(cuda::kSquareSums);
  const DeviceArray<float> values(1);
  const Stream stream;
  for (const bool again : {false, true}) {
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    cuda::sum_squares(sums.data(), values.data(), 1, stream.handle);
    CHECK(cudaGetLastError() == (again ? cudaSuccess : cudaErrorStreamCaptureUnsupported));
    CHECK((cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess) == again);
    cudaGetLastError();
    if (graph != nullptr) cudaGraphDestroy(graph);
    cuda::sum_squares(sums.data(), values.data(), 1, stream.handle);
  }
}

TEST_CASE("a process that has taken no step can capture one, and its weights stay what they were") {
  const auto gpu = cuda::make_cuda_backend({}, mlp(), {}, {.on = true, .seed = 5});
  REQUIRE(gpu);
  const auto weights = initial_parameters(mlp(), 1);
  REQUIRE((*gpu)->load_parameters(weights));
  Dataset images;
  images.images.assign(4 * 28 * 28, 7);
  images.labels.assign(4, 1);
  const auto steps = (*gpu)->make_resident({.images = &images,
                                            .batch_size = 4,
                                            .most_positions = 4,
                                            .most_steps = 1,
                                            .ready = [](std::size_t) { return Result<void>(ok); },
                                            .averaged = [] { return Result<void>(ok); },
                                            .drained = [] { return Result<void>(ok); }});
  INFO((steps ? std::string() : to_string(steps.error())));
  CHECK(steps);
  const auto kept = (*gpu)->copy_parameters();
  REQUIRE(kept);
  CHECK(*kept == weights);
}

TEST_CASE("threads of a block meet at its barriers") {
  constexpr std::size_t kChannels = 3;
  constexpr std::size_t kArea = 500;
  const DeviceArray<float> values(2 * kChannels * kArea);
  const DeviceArray<float> sums(kChannels);
  upload(values, std::vector<float>(values.size(), 2));
  REQUIRE(cuda::parts_per_channel(2, kArea) == 1);
  cuda::sum_per_channel(sums.data(), nullptr, values.data(), 2, kChannels, kArea, nullptr);
  for (const float sum : host_copy(sums)) CHECK(sum == 2 * 2 * kArea);
}

TEST_CASE("a channel's sum is that of its parts, of which the last may be shorter") {
  constexpr std::size_t kBatch = 3;
  constexpr std::size_t kChannels = 2;
  constexpr std::size_t kArea = 4099;
  constexpr std::size_t kParts = 4;
  REQUIRE(cuda::parts_per_channel(kBatch, kArea) == kParts);
  const auto host = random_values(kBatch * kChannels * kArea, 7);
  const DeviceArray<float> values(host.size());
  const DeviceArray<float> sums(kChannels);
  const DeviceArray<float> of_parts(kParts * kChannels);
  upload(values, host);
  cuda::sum_per_channel(sums.data(), of_parts.data(), values.data(), kBatch, kChannels, kArea, nullptr);
  const auto found = host_copy(sums);
  for (std::size_t channel = 0; channel < kChannels; ++channel) {
    double sum = 0;
    for (std::size_t i = 0; i < kBatch * kArea; ++i) {
      sum += host[(i / kArea * kChannels + channel) * kArea + i % kArea];
    }
    CHECK(found[channel] == Approx(sum).margin(1e-3));
  }
  CHECK(cuda::parts_per_channel(4096, 576) == 16);  // no more than that
}

TEST_CASE("a bias and a relu have the same bits in the pool behind them as before it, and so has its gate") {
  constexpr std::size_t kBatch = 3, kChannels = 5, kHeight = 6, kWidth = 10, kArea = kHeight * kWidth;
  constexpr cuda::PoolShape kShape = {.channels = kChannels, .height = kHeight, .width = kWidth};
  auto host = random_values(kBatch * kChannels * kArea, 8);
  host[7] = NAN;
  const DeviceArray<float> in(host.size());
  const DeviceArray<float> bias(kChannels);
  const DeviceArray<float> gradient(host.size() / 4);
  const DeviceArray<float> in_gradient(host.size());
  struct Pooled {
    DeviceArray<float> out{kBatch * kChannels * kArea / 4};
    DeviceArray<std::uint8_t> taken{kBatch * kChannels * kArea / 4};
  } before, inside;
  upload(in, host);
  upload(bias, random_values(kChannels, 9));
  cuda::max_pool(inside.out.data(), inside.taken.data(), in.data(), bias.data(), kBatch, kShape, nullptr);
  const auto raw = host_copy(in);
  CHECK(std::memcmp(raw.data(), host.data(), host.size() * sizeof(float)) == 0);
  cuda::add_bias_relu(in.data(), bias.data(), kBatch, kChannels, kArea, nullptr);
  cuda::max_pool(before.out.data(), before.taken.data(), in.data(), nullptr, kBatch, kShape, nullptr);
  const auto expected = host_copy(before.out);
  const auto found = host_copy(inside.out);
  CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
  CHECK(host_copy(inside.taken) == host_copy(before.taken));

  upload(gradient, random_values(gradient.size(), 10));
  const cuda::Gate gate = {.output = before.out.data(), .factor = 1.25F};
  cuda::max_pool_backward(in_gradient.data(), gradient.data(), before.taken.data(), gate, kBatch, kShape, nullptr);
  const auto gated = host_copy(in_gradient);
  cuda::relu_backward(gradient.data(), before.out.data(), 1.25F, gradient.size(), nullptr);
  cuda::max_pool_backward(in_gradient.data(), gradient.data(), before.taken.data(), {}, kBatch, kShape, nullptr);
  CHECK(gated == host_copy(in_gradient));
  CHECK(std::count(gated.begin(), gated.end(), 0.0F) > static_cast<std::ptrdiff_t>(gated.size() / 4 * 3));
}

TEST_CASE("images are convolved, and the gradients of weights and biases taken, by their definitions") {
  constexpr std::size_t kBatch = 18, kChannels = 11, kSide = 28, kOut = 26, kArea = kOut * kOut;  // more than 16 parts
  REQUIRE(cuda::image_parts(kBatch) < kBatch);
  const bool with_bias = GENERATE(false, true);
  const auto images = random_values(kBatch * kSide * kSide, 13);
  const auto weight = random_values(kChannels * 9, 14);
  const auto bias = random_values(kChannels, 15);
  const auto gradient = random_values(kBatch * kChannels * kArea, 16);
  const DeviceArray<float> device_images(images.size()), device_weight(weight.size()), device_bias(bias.size());
  const DeviceArray<float> out(gradient.size()), device_gradient(gradient.size());
  const DeviceArray<float> sums(kChannels * 10), of_parts(kChannels * 10 * cuda::image_parts(kBatch));
  upload(device_images, images);
  upload(device_weight, weight);
  upload(device_bias, bias);
  upload(device_gradient, gradient);
  cuda::convolve_images(out.data(), device_images.data(), device_weight.data(),
                        with_bias ? device_bias.data() : nullptr, with_bias, kBatch, kChannels, nullptr);
  cuda::convolve_images_backward(sums.data(), of_parts.data(), device_images.data(), device_gradient.data(),
                                 {.output = with_bias ? out.data() : nullptr, .factor = 0.5F}, kBatch, kChannels,
                                 nullptr);
  const auto found = host_copy(out);
  const auto found_sums = host_copy(sums);
  std::vector<double> expected_sums(kChannels * 10);
  for (std::size_t b = 0; b < kBatch; ++b) {
    for (std::size_t c = 0; c < kChannels; ++c) {
      for (std::size_t p = 0; p < kArea; ++p) {
        const std::size_t at = (b * kChannels + c) * kArea + p;
        const double passed = !with_bias ? gradient[at] : found[at] > 0 ? gradient[at] * 0.5 : 0;
        double sum = with_bias ? bias[c] : 0;
        for (std::size_t t = 0; t < 9; ++t) {
          const double pixel = images[b * kSide * kSide + (p / kOut + t / 3) * kSide + p % kOut + t % 3];
          sum += pixel * weight[c * 9 + t];
          expected_sums[c * 9 + t] += pixel * passed;
        }
        expected_sums[kChannels * 9 + c] += passed;
        REQUIRE(found[at] == Approx(with_bias ? std::max(sum, 0.0) : sum).margin(1e-5));
      }
    }
  }
  for (std::size_t i = 0; i < expected_sums.size(); ++i) CHECK(found_sums[i] == Approx(expected_sums[i]).margin(1e-3));
}

TEST_CASE("a bias and a relu have the same bits in the dropout behind them as before it") {
  constexpr std::size_t kBatch = 3, kFeatures = 20;
  constexpr cuda::MaskSeries kMasks = {.seed = 3, .first_sample = 40, .stride = 2, .layer = 1};
  const DeviceArray<float> before(kBatch * kFeatures), inside(kBatch * kFeatures), bias(kFeatures);
  const auto host = random_values(before.size(), 17);
  upload(before, host);
  upload(inside, host);
  upload(bias, random_values(kFeatures, 18));
  cuda::add_bias_relu(before.data(), bias.data(), kBatch, kFeatures, 1, nullptr);
  cuda::dropout(before.data(), nullptr, kBatch, kFeatures, 0.5F, kMasks, nullptr);
  cuda::dropout(inside.data(), bias.data(), kBatch, kFeatures, 0.5F, kMasks, nullptr);
  const auto found = host_copy(inside);
  CHECK(found == host_copy(before));
  CHECK(std::count(found.begin(), found.end(), 0.0F) > static_cast<std::ptrdiff_t>(found.size() / 2));
}

TEST_CASE("a bias is added by four values at once and one by one, and so is a gradient gated") {
  const std::size_t area = GENERATE(12, 15, 1);
  const bool relu = GENERATE(false, true);
  CAPTURE(area, relu);
  constexpr std::size_t kBatch = 2, kChannels = 3;
  const auto host = random_values(kBatch * kChannels * area, 11);
  const auto more = random_values(kChannels, 12);
  const DeviceArray<float> values(host.size());
  const DeviceArray<float> bias(kChannels);
  upload(values, host);
  upload(bias, more);
  (relu ? cuda::add_bias_relu : cuda::add_bias)(values.data(), bias.data(), kBatch, kChannels, area, nullptr);
  const auto sums = host_copy(values);
  const DeviceArray<float> gradient(host.size());
  upload(gradient, host);
  cuda::relu_backward(gradient.data(), values.data(), 2.0F, host.size(), nullptr);
  const auto passed = host_copy(gradient);
  for (std::size_t i = 0; i < host.size(); ++i) {
    const float sum = host[i] + more[i / area % kChannels];
    CHECK(sums[i] == (relu ? std::max(sum, 0.0F) : sum));
    CHECK(passed[i] == (sums[i] > 0 ? 2 * host[i] : 0.0F));
  }
}

TEST_CASE("a launch without blocks is the last error") {
  cuda::scale(nullptr, 1, 0, nullptr);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("cublasGemmEx is its definition, column by column, whatever is transposed") {
  cublasHandle_t handle = nullptr;
  REQUIRE(cublasCreate_v2(&handle) == CUBLAS_STATUS_SUCCESS);
  const float one = 1;
  const float zero = 0;
  const auto [m, n, k] =
      GENERATE(std::array<int, 3>{5, 7, 3}, std::array<int, 3>{33, 17, 300}, std::array<int, 3>{1, 1, 1});
  const bool ta = GENERATE(false, true);
  const bool tb = GENERATE(false, true);
  CAPTURE(m, n, k, ta, tb);
  const int lda = (ta ? k : m) + 2;
  const int ldb = (tb ? n : k) + 1;
  const int ldc = m + 3;
  const auto size = [](int step, int columns) { return static_cast<std::size_t>(step * columns); };
  const auto a = random_values(size(lda, ta ? m : k), 1);
  const auto b = random_values(size(ldb, tb ? k : n), 2);
  const DeviceArray<float> device_a(a.size());
  const DeviceArray<float> device_b(b.size());
  const DeviceArray<float> device_c(size(ldc, n));
  upload(device_a, a);
  upload(device_b, b);
  REQUIRE(::cublasGemmEx(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &one,
                         device_a.data(), CUDA_R_32F, lda, device_b.data(), CUDA_R_32F, ldb, &zero, device_c.data(),
                         CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  const auto c = host_copy(device_c);
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; ++i) {
      double sum = 0;
      for (int l = 0; l < k; ++l) {
        sum += static_cast<double>(a[static_cast<std::size_t>(ta ? l + i * lda : i + l * lda)]) *
               b[static_cast<std::size_t>(tb ? j + l * ldb : l + j * ldb)];
      }
      REQUIRE(c[static_cast<std::size_t>(i + j * ldc)] == Approx(sum).margin(1e-4));
    }
    for (int i = m; i < ldc; ++i) REQUIRE(std::isnan(c[static_cast<std::size_t>(i + j * ldc)]));
  }
  cublasDestroy_v2(handle);
}

TEST_CASE("operands are rounded as tensor cores round them") {
  CHECK(cuda_host::nearest_tf32(1.0F + 0x1p-11F) == 1.0F + 0x1p-10F);
  CHECK(cuda_host::nearest_tf32(1.0F + 0x0.fffp-11F) == 1.0F);
  CHECK(cuda_host::nearest_bf16(1.0F + 0x1p-8F) == 1.0F);
  CHECK(cuda_host::nearest_bf16(1.0F + 0x3p-8F) == 1.0F + 0x1p-6F);
  CHECK(std::isnan(cuda_host::nearest_tf32(NAN)));
  CHECK(std::isinf(cuda_host::nearest_bf16(INFINITY)));
}

TEST_CASE("cuDNN's convolution and its two gradients are their definitions") {
  constexpr std::size_t kB = 2, kC = 3, kH = 6, kW = 5, kO = 4, kK = 3, kOutH = kH - kK + 1, kOutW = kW - kK + 1;
  const auto in = random_values(kB * kC * kH * kW, 3);
  const auto weight = random_values(kO * kC * kK * kK, 4);
  const auto gradient = random_values(kB * kO * kOutH * kOutW, 5);
  std::vector<double> out(gradient.size());
  std::vector<double> weight_gradient(weight.size());
  std::vector<double> in_gradient(in.size());
  for (std::size_t b = 0; b < kB; ++b) {
    for (std::size_t o = 0; o < kO; ++o) {
      for (std::size_t y = 0; y < kOutH; ++y) {
        for (std::size_t x = 0; x < kOutW; ++x) {
          const std::size_t at = ((b * kO + o) * kOutH + y) * kOutW + x;
          for (std::size_t c = 0; c < kC; ++c) {
            for (std::size_t dy = 0; dy < kK; ++dy) {
              for (std::size_t dx = 0; dx < kK; ++dx) {
                const std::size_t i = ((b * kC + c) * kH + y + dy) * kW + x + dx;
                const std::size_t w = ((o * kC + c) * kK + dy) * kK + dx;
                out[at] += static_cast<double>(in[i]) * weight[w];
                weight_gradient[w] += static_cast<double>(in[i]) * gradient[at];
                in_gradient[i] += static_cast<double>(weight[w]) * gradient[at];
              }
            }
          }
        }
      }
    }
  }
  cudnnHandle_t handle = nullptr;
  cudnnTensorDescriptor_t in_shape = nullptr;
  cudnnTensorDescriptor_t out_shape = nullptr;
  cudnnFilterDescriptor_t weight_shape = nullptr;
  cudnnConvolutionDescriptor_t convolution = nullptr;
  REQUIRE(cudnnCreate(&handle) == CUDNN_STATUS_SUCCESS);
  cudnnCreateTensorDescriptor(&in_shape);
  cudnnCreateTensorDescriptor(&out_shape);
  cudnnCreateFilterDescriptor(&weight_shape);
  cudnnCreateConvolutionDescriptor(&convolution);
  cudnnSetTensor4dDescriptor(in_shape, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, kB, kC, kH, kW);
  cudnnSetTensor4dDescriptor(out_shape, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, kB, kO, kOutH, kOutW);
  cudnnSetFilter4dDescriptor(weight_shape, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, kO, kC, kK, kK);
  cudnnSetConvolution2dDescriptor(convolution, 0, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
  cudnnSetConvolutionMathType(convolution, CUDNN_FMA_MATH);
  std::size_t bytes = 0;
  REQUIRE(cudnnGetConvolutionForwardWorkspaceSize(handle, in_shape, weight_shape, convolution, out_shape,
                                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                  &bytes) == CUDNN_STATUS_SUCCESS);
  const DeviceArray<std::byte> workspace(bytes);
  const DeviceArray<float> device_in(in.size()), device_weight(weight.size()), device_gradient(gradient.size());
  const DeviceArray<float> device_out(out.size()), device_wg(weight.size()), device_ig(in.size());
  upload(device_in, in);
  upload(device_weight, weight);
  upload(device_gradient, gradient);
  const float one = 1;
  const float zero = 0;
  REQUIRE(cudnnConvolutionForward(handle, &one, in_shape, device_in.data(), weight_shape, device_weight.data(),
                                  convolution, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, workspace.data(),
                                  bytes, &zero, out_shape, device_out.data()) == CUDNN_STATUS_SUCCESS);
  REQUIRE(cudnnConvolutionBackwardFilter(handle, &one, in_shape, device_in.data(), out_shape, device_gradient.data(),
                                         convolution, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, workspace.data(), bytes,
                                         &zero, weight_shape, device_wg.data()) == CUDNN_STATUS_SUCCESS);
  REQUIRE(cudnnConvolutionBackwardData(handle, &one, weight_shape, device_weight.data(), out_shape,
                                       device_gradient.data(), convolution, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                                       workspace.data(), bytes, &zero, in_shape,
                                       device_ig.data()) == CUDNN_STATUS_SUCCESS);
  const auto check = [](const std::vector<float>& found, const std::vector<double>& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(found[i] == Approx(expected[i]).margin(1e-5));
  };
  check(host_copy(device_out), out);
  check(host_copy(device_wg), weight_gradient);
  check(host_copy(device_ig), in_gradient);
  cudnnDestroyConvolutionDescriptor(convolution);
  cudnnDestroyFilterDescriptor(weight_shape);
  cudnnDestroyTensorDescriptor(out_shape);
  cudnnDestroyTensorDescriptor(in_shape);
  cudnnDestroy(handle);
}

TEST_CASE("a backend that goes waits for the work that it has queued") {
  const Model& model = *all_models().back();
  const World world;
  {
    const auto backend = cuda::make_cuda_backend(world, model, {}, {.on = false, .seed = 0});
    REQUIRE(backend);
    REQUIRE((*backend)->load_parameters(initial_parameters(model, 1)));
    const std::vector<float> image(28 * 28, 0.5F);
    const std::vector<std::uint8_t> label = {3};
    const auto ignore = [](std::size_t) -> Result<void> { return ok; };
    REQUIRE((*backend)->forward_backward({.images = image, .labels = label}, {}, ignore));
    REQUIRE((*backend)->optimizer_step(1, 1e-3));
  }
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

}  // namespace emulated_device_test
