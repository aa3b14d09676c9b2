// The order of the images. Called by the training loop once per epoch; knows numbers, not images.
#include "trainer/sampler.hpp"

#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "trainer/torch_random.hpp"

namespace llmlaunch::trainer {
namespace {

/// From here on the remainder of a 32-bit draw would favour the front too much.
constexpr std::uint32_t kLongList = std::numeric_limits<std::uint32_t>::max() / 20;

}  // namespace

std::vector<std::uint32_t> shuffled(std::uint32_t count, std::uint64_t seed) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  TorchGenerator generator(seed);
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    const std::uint32_t left = count - i;
    const std::uint64_t draw = count < kLongList ? generator.bits() : generator.bits64();
    std::swap(order[i], order[i + static_cast<std::uint32_t>(draw % left)]);
  }
  return order;
}

DistributedSampler::DistributedSampler(std::uint64_t count, std::uint32_t world_size, std::uint32_t rank,
                                       std::uint64_t seed, Tail tail)
    : count_(count),
      world_size_(world_size),
      rank_(rank),
      seed_(seed),
      size_(tail == Tail::drop ? count / world_size : (count + world_size - 1) / world_size) {
  assert(rank < world_size);
  assert(count <= std::numeric_limits<std::uint32_t>::max());
}

std::vector<std::uint32_t> DistributedSampler::epoch(std::uint64_t epoch) const {
  const std::vector<std::uint32_t> order = shuffled(static_cast<std::uint32_t>(count_), seed_ + epoch);
  std::vector<std::uint32_t> mine;
  mine.reserve(size_);
  for (std::uint64_t i = 0; i < size_; ++i) mine.push_back(order[(rank_ + i * world_size_) % count_]);
  return mine;
}

}  // namespace llmlaunch::trainer
