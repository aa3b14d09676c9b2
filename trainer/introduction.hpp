/// \file
/// What ranks tell each other once they are connected: their hosts, for errors, and whether all can share memory.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/comm.hpp"
#include "trainer/shared_memory_bootstrap.hpp"

namespace llmlaunch::trainer {

/// What each rank tells all others first.
struct Introduction {
  std::array<char, 171> host{};    // and a zero; longer names are cut, in errors only
  std::array<char, 36> machine{};  // the kernel's boot_id; zeros where it cannot be read
  std::uint8_t shares_memory =
      0;                    // the version of what is in the memory, as ranks of two programs may meet here; 0: no
  SharedMemoryOffer offer;  // rank 0's
};

struct Introductions {
  std::vector<std::string> hosts;         ///< by rank
  bool may_share_memory = false;          ///< all are on one machine, and none was told not to
  SharedMemoryOffer offer;                ///< rank 0's
  Result<SharedMemoryListener> listener;  ///< rank 0's own; elsewhere, and where none is wanted, an error
};

/// Collective.
Result<Introductions> introduce(Comm& comm, const std::string& host, bool share_memory);

struct SharedMemory {
  std::optional<SharedMemoryGroup> group;
  std::string why_not;  ///< which rank cannot, and why; empty where it was not to be tried
};

/// Where one rank cannot, for whatever reason, none does, and all know the reason. `timeout`: for rank 0's word.
/// Collective.
Result<SharedMemory> share_memory(Comm& comm, Introductions introductions, std::chrono::milliseconds timeout);

}  // namespace llmlaunch::trainer
