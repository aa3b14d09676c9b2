// One rank of a world that averages BasicNet's gradient, again and again, as CPU ranks of the trainer do: rank 0
// prints the median time of one. LLMLAUNCH_SHM_DISABLE=1 is Gloo over TCP. Started by llmlaunch run;
// tests/bench/bench_trainer.py does.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "trainer/backend.hpp"
#include "trainer/gloo_options.hpp"
#include "trainer/world.hpp"

namespace {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

constexpr int kWarmUp = 20;
constexpr int kRounds = 200;

void must(const Result<void>& result) {
  if (result) return;
  fmt::print(stderr, "{}\n", to_string(result.error()));
  std::exit(1);
}

template <class T>
T must(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}\n", to_string(result.error()));
  std::exit(1);
}

}  // namespace

int main() {
  World world = must(join_world(0));
  if (!world.client) {
    fmt::print(stderr, "start this with llmlaunch run and at least 2 ranks\n");
    return 64;
  }
  const auto comm = must(make_gloo_comm(*world.client, must(gloo_options_from_environment())));
  std::vector<float> gradient(basic_net().values, 1.0F);
  std::vector<double> milliseconds;
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    must(comm->barrier());
    const auto begin = std::chrono::steady_clock::now();
    must(comm->start_all_reduce_mean(gradient));
    must(comm->wait());
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    if (round >= kWarmUp) milliseconds.push_back(took.count());
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + kRounds / 2, milliseconds.end());
  if (world.rank == 0) fmt::print("all_reduce_ms {:.3f}\n", milliseconds[kRounds / 2]);
  must(comm->finish());
  return 0;
}
