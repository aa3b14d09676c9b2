/// \file
/// Which images a rank sees in an epoch, and in which order: PyTorch's DistributedSampler with shuffle=True, number for
/// number.
#pragma once

#include <cstdint>
#include <vector>

namespace llmlaunch::trainer {

/// What happens to images that cannot be dealt evenly.
enum class Tail {
  repeat,  ///< the list is made longer from its own head, as often as it takes (drop_last=False)
  drop,    ///< they are left out of this epoch (drop_last=True)
};

class DistributedSampler {
 public:
  /// `count` images (below 2^32) dealt to `world_size` ranks; this is rank `rank`. `count` 0 gives every rank nothing,
  /// and so do fewer images than ranks where the tail is dropped.
  DistributedSampler(std::uint64_t count, std::uint32_t world_size, std::uint32_t rank, std::uint64_t seed,
                     Tail tail = Tail::repeat);

  /// How many images each rank sees per epoch, the same on all: count / world_size, rounded up, or down with a dropped
  /// tail.
  std::uint64_t size() const { return size_; }

  /// The positions of the rank's images in epoch `epoch` (from 0): of the list shuffled by seed + epoch, as long as
  /// size() × world_size, the entries rank, rank + world_size, …
  std::vector<std::uint32_t> epoch(std::uint64_t epoch) const;

 private:
  std::uint64_t count_;
  std::uint32_t world_size_;
  std::uint32_t rank_;
  std::uint64_t seed_;
  std::uint64_t size_;
};

/// `torch.randperm(count, generator=torch.Generator().manual_seed(seed))`: for i = 0 … count - 2, entry i changes
/// places with entry i + (a draw modulo count - i). A draw has 32 bits, for very long lists 64.
std::vector<std::uint32_t> shuffled(std::uint32_t count, std::uint64_t seed);

}  // namespace llmlaunch::trainer
