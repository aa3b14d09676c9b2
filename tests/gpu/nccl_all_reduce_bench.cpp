// One rank of a world that averages BasicNet's gradient by NCCL, again and again: rank 0 prints the median time of one,
// from the call until the GPU has it, and of one that was captured into a CUDA graph, as --cuda_graph captures it: on
// one GPU, where no job of several ranks can run, nothing else has NCCL in a capture. All of them have to give the
// mean. A world of one is the price of the call itself. Started by llmlaunch run. Without a usable GPU: exit status 77
// and the reason.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "trainer/backend.hpp"
#include "trainer/cuda/check.hpp"
#include "trainer/cuda/cuda_backend.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/nccl_comm.hpp"
#include "trainer/world.hpp"

namespace {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

constexpr int kWarmUp = 20;
constexpr int kRounds = 200;  // unless an argument says
constexpr int kSkipped = 77;

[[noreturn]] void give_up(const Error& error, int status) {
  fmt::print(stderr, "{}\n", to_string(error));
  std::exit(status);
}

using Clock = std::chrono::steady_clock;

/// A gradient, of which each rank has its own, and what is made of it.
class Averages {
 public:
  Averages(Comm& comm, cudaStream_t stream, int rounds)
      : comm_(comm), stream_(stream), rounds_(rounds), gradient_(basic_net().values) {}

  /// One that the host starts and waits for.
  void take() {
    must(comm_.start_all_reduce_mean(gradient_.span()));
    must(comm_.wait());
  }

  /// One that nobody waits for, in two buckets.
  void queue() {
    const std::size_t first = gradient_.size() / 64;
    must(comm_.start_all_reduce_mean(gradient_.span().subspan(first)));
    must(comm_.start_all_reduce_mean(gradient_.span().first(first)));
    must(comm_.join());
  }

  /// The median time of some of what `function` does, each from values that are new. Ends the process where their mean
  /// is none.
  template <class Function>
  double median_microseconds(const char* what, Function&& function) {
    std::vector<double> times;
    for (int round = 0; round < kWarmUp + rounds_; ++round) {
      fill(round);
      must(comm_.barrier());
      CUDA_CHECK(cudaStreamSynchronize(stream_));
      const auto begin = Clock::now();
      function();
      CUDA_CHECK(cudaStreamSynchronize(stream_));
      const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
      if (round >= kWarmUp) times.push_back(took.count());
      if (round < 2 || round + 1 == kWarmUp + rounds_) check(what, round);
    }
    std::nth_element(times.begin(), times.begin() + rounds_ / 2, times.end());
    return times[static_cast<std::size_t>(rounds_) / 2];
  }

 private:
  static void must(const Result<void>& done) {
    if (!done) give_up(done.error(), 1);
  }

  /// Small whole numbers, whose sum has no rounding.
  float value(int round, std::size_t i, std::uint32_t rank) const {
    return static_cast<float>((i + static_cast<std::size_t>(round)) % 61 + 4 * rank);
  }

  void fill(int round) {
    std::vector<float> host(gradient_.size());
    for (std::size_t i = 0; i < host.size(); ++i) host[i] = value(round, i, comm_.rank());
    CUDA_CHECK(cudaMemcpy(gradient_.data(), host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaDeviceSynchronize());  // the copy may come after its call, and no other stream waits for it
  }

  void check(const char* what, int round) const {
    std::vector<float> host(gradient_.size());
    CUDA_CHECK(cudaMemcpy(host.data(), gradient_.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost));
    const float more = 2.0F * static_cast<float>(comm_.world_size() - 1);  // the mean of 4 × rank
    for (std::size_t i = 0; i < host.size(); ++i) {
      const float expected = value(round, i, 0) + more;
      if (std::abs(host[i] - expected) <= 1e-5F * (1 + expected)) continue;
      fmt::print(stderr, "FAILED: {}, round {}: value {} is {}, the mean {}\n", what, round, i, host[i], expected);
      std::exit(1);
    }
  }

  Comm& comm_;
  cudaStream_t stream_;
  int rounds_;
  cuda::DeviceArray<float> gradient_;
};

/// As --cuda_graph: the kinds of call are known to NCCL before the capture.
double microseconds_of_graph(Averages& averages, cudaStream_t stream) {
  averages.median_microseconds("two buckets", [&] { averages.queue(); });
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  averages.queue();
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  CUDA_CHECK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
  const double took = averages.median_microseconds("a graph", [&] { CUDA_CHECK(cudaGraphLaunch(executable, stream)); });
  // A graph goes before its communicator.
  CUDA_CHECK(cudaGraphExecDestroy(executable));
  CUDA_CHECK(cudaGraphDestroy(graph));
  return took;
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::max(1, std::atoi(words[1])) : kRounds;
  const auto nccl_version = cuda::probe();
  if (!nccl_version) give_up(nccl_version.error(), kSkipped);
  auto world = join_world(*nccl_version);
  if (!world) give_up(world.error(), 1);
  if (!world->client) {
    fmt::print(stderr, "start this with llmlaunch run\n");
    return 64;
  }
  const auto measured = cuda::without_exceptions([&] {
    CUDA_CHECK(cudaSetDevice(static_cast<int>(world->local_rank)));
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const auto comm = cuda::make_nccl_comm(*world->client, stream, {});
    if (!comm) give_up(comm.error(), 1);
    std::pair<double, double> microseconds;
    {
      Averages averages(**comm, stream, rounds);
      microseconds.first = averages.median_microseconds("one call", [&] { averages.take(); });
      microseconds.second = microseconds_of_graph(averages, stream);
    }
    if (auto finished = (*comm)->finish(); !finished) give_up(finished.error(), 1);
    return microseconds;
  });
  if (!measured) give_up(measured.error(), 1);
  if (world->rank == 0)
    fmt::print("measured: all-reduce of 4.8 MB, {} rank(s): {:.1f} us, as a CUDA graph {:.1f} us\n", world->world_size,
               measured->first, measured->second);
  return 0;
}
