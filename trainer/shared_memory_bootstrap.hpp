/// \file
/// How the ranks of one machine get memory in common. Whether they are on one machine is found by trying: rank 0
/// listens on an abstract Unix socket, which only processes of its network namespace reach, and hands the memory's
/// descriptor to those that call.
///
///     rank 0                                     every other rank
///     SharedMemoryListener::open, offer  ──────► (over the connections that the ranks have anyway)
///                                       ◄──────  SharedMemoryCaller::call: secret, rank, pipe
///                (all have called: the ranks agree)
///     admit: memory, everybody's pipe    ──────► receive
///
/// Each rank keeps the writing end of a pipe open as long as it lives, and everybody has the reading ends: a hang-up
/// tells that it is gone, however it ended.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"
#include "trainer/shared_memory_region.hpp"

namespace llmlaunch::trainer {

/// Each gets a descriptor of every rank and of the memory, and a user's usual limit, 1024, holds for all that are on
/// their way.
inline constexpr std::uint32_t kMaxSharedMemoryRanks = 32;

/// Where rank 0 listens, and what shows that the caller is of the job.
struct SharedMemoryOffer {
  std::array<std::byte, 16> name{};
  std::array<std::byte, 32> secret{};
};

/// What every rank has in the end.
struct SharedMemoryGroup {
  SharedMemoryMapping memory;
  UniqueFd alive;                ///< while it is open, the others see this rank alive
  std::vector<UniqueFd> others;  ///< by rank: hangs up when that rank is gone; own: none
};

/// Rank 0's side.
class SharedMemoryListener {
 public:
  static Result<SharedMemoryListener> open();

  const SharedMemoryOffer& offer() const { return offer_; }

  /// After all other ranks have called; never waits. Callers of another user or without the secret are turned away.
  /// Where a rank is missing or memory is not to be had, an error, and nobody gets any. Where it cannot be sent to a
  /// rank, an error, too, and some have it by then: the ranks have to tell each other how it went before they use it.
  Result<SharedMemoryGroup> admit(std::uint32_t world_size, std::size_t bytes);

 private:
  SharedMemoryOffer offer_;
  UniqueFd socket_;
};

/// Every other rank's side.
class SharedMemoryCaller {
 public:
  /// Never waits. The system's error where nobody listens, `Errc::unauthenticated` where another user does.
  static Result<SharedMemoryCaller> call(const SharedMemoryOffer& offer, std::uint32_t rank);

  /// `Errc::closed` when rank 0 gave nothing.
  Result<SharedMemoryGroup> receive(std::uint32_t world_size, std::size_t bytes, std::chrono::milliseconds timeout);

 private:
  std::uint32_t rank_ = 0;
  UniqueFd socket_;
  UniqueFd alive_;
};

}  // namespace llmlaunch::trainer
