/// \file
/// Which images a rank sees in an epoch, and in which order: the rules of PyTorch's DistributedSampler with
/// shuffle=True and drop_last=False. Only the shuffle is our own: Fisher-Yates by `RandomSequence(seed + epoch)`, so
/// the order is the same on every machine, but not PyTorch's.
#pragma once

#include <cstdint>
#include <vector>

namespace llmlaunch::trainer {

class DistributedSampler {
 public:
  /// `count` images (below 2^32) dealt to `world_size` ranks; this is rank `rank`. `count` 0 gives every rank nothing.
  DistributedSampler(std::uint64_t count, std::uint32_t world_size, std::uint32_t rank, std::uint64_t seed);

  /// How many images each rank sees per epoch: ceil(count / world_size), the same on all.
  std::uint64_t size() const { return size_; }

  /// The positions of the rank's images in epoch `epoch` (from 0): of the shuffled list, made as long as
  /// size() × world_size by repeating it from its head, the entries rank, rank + world_size, …
  std::vector<std::uint32_t> epoch(std::uint64_t epoch) const;

 private:
  std::uint64_t count_;
  std::uint32_t world_size_;
  std::uint32_t rank_;
  std::uint64_t seed_;
  std::uint64_t size_;
};

/// 0 … count - 1 in the order that `key` gives: for i = count - 1 … 1, entry i changes places with entry
/// `RandomSequence(key).below(i + 1)`.
std::vector<std::uint32_t> shuffled(std::uint32_t count, std::uint64_t key);

}  // namespace llmlaunch::trainer
