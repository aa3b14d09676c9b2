// One rank of a world that averages BasicNet's gradient by NCCL, again and again: rank 0 prints the median time of one,
// from the call until the GPU has it. A world of one is the price of the call itself. Started by llmlaunch run. Without
// a usable GPU: exit status 77 and the reason.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
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
constexpr int kRounds = 200;
constexpr int kSkipped = 77;

[[noreturn]] void give_up(const Error& error, int status) {
  fmt::print(stderr, "{}\n", to_string(error));
  std::exit(status);
}

double median_microseconds(Comm& comm, cudaStream_t stream) {
  cuda::DeviceArray<float> gradient(basic_net().values);
  CUDA_CHECK(cudaMemset(gradient.data(), 0, basic_net().values * sizeof(float)));
  std::vector<double> times;
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    if (auto met = comm.barrier(); !met) give_up(met.error(), 1);
    CUDA_CHECK(cudaStreamSynchronize(stream));
    const auto begin = std::chrono::steady_clock::now();
    if (auto started = comm.start_all_reduce_mean(gradient.span()); !started) give_up(started.error(), 1);
    if (auto done = comm.wait(); !done) give_up(done.error(), 1);
    CUDA_CHECK(cudaStreamSynchronize(stream));
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (round >= kWarmUp) times.push_back(took.count());
  }
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

}  // namespace

int main() {
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
    const double microseconds = median_microseconds(**comm, stream);
    if (auto finished = (*comm)->finish(); !finished) give_up(finished.error(), 1);
    return microseconds;
  });
  if (!measured) give_up(measured.error(), 1);
  if (world->rank == 0)
    fmt::print("measured: all-reduce of 4.8 MB, {} rank(s): {:.1f} us\n", world->world_size, *measured);
  return 0;
}
