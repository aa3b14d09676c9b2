// The order of the images. Called by the training loop once per epoch; knows numbers, not images.
#include "trainer/sampler.hpp"

#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "trainer/random.hpp"

namespace llmlaunch::trainer {

std::vector<std::uint32_t> shuffled(std::uint32_t count, std::uint64_t key) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  RandomSequence random(key);
  for (std::uint32_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

DistributedSampler::DistributedSampler(std::uint64_t count, std::uint32_t world_size, std::uint32_t rank,
                                       std::uint64_t seed)
    : count_(count), world_size_(world_size), rank_(rank), seed_(seed), size_((count + world_size - 1) / world_size) {
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
