/// \file
/// The all-reduce of ranks that have memory in common. Each rank has a counter and some slots there. Values go through
/// in chunks, every rank adds up its own part of each, in the order of the ranks, and a round has three chunks in work:
///
///     round r    own values of chunk r, scaled        → own slot r, but for the own part
///                wait until every counter is r
///                own part of chunk r-1, added up      → own values, own slot r-1
///                others' parts of chunk r-2           → own values
///                counter = r+1
///
/// So nobody is more than a round ahead, and a slot is written again when all have read it. What stands in the memory
/// is compared and added, and never used as a place: a broken peer makes wrong sums or waits that end in time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "rendezvous/base/error.hpp"
#include "trainer/shared_memory_bootstrap.hpp"

namespace llmlaunch::trainer {

/// Why an all-reduce has no result.
struct AllReduceFailure {
  Errc code;                         ///< `closed`, `timed_out`; `internal`: other numbers of values
  std::vector<std::uint32_t> ranks;  ///< that were lost, or the one with another number
  std::uint64_t values = 0;          ///< that number
};

class SharedMemoryAllReduce {
 public:
  /// The size of the memory, on every rank.
  static std::size_t bytes(std::uint32_t world_size);

  /// `group` has memory of that size, zeroed.
  SharedMemoryAllReduce(SharedMemoryGroup group, std::uint32_t rank);

  /// Each value × 1/world_size, then the sum in the order of the ranks: the same bits on all. Every rank calls it, with
  /// as many values, one after another. After a failure there is no further call.
  std::optional<AllReduceFailure> mean(std::span<float> values, std::chrono::milliseconds timeout);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Control;

  Control& control(std::uint32_t rank) const;
  float* slot(std::uint32_t rank, std::uint32_t round) const;
  std::span<float> part(std::span<float> chunk, std::uint32_t rank) const;
  void scatter(std::span<float> chunk, std::uint32_t round) const;
  void add_up(std::span<float> chunk, std::uint32_t round) const;
  void gather(std::span<float> chunk, std::uint32_t round) const;
  void publish();
  std::optional<AllReduceFailure> wait_for_all(std::uint32_t last_round, TimePoint deadline) const;
  std::optional<AllReduceFailure> compare_sizes(std::uint64_t values) const;
  std::vector<std::uint32_t> lost(std::uint32_t last_round) const;

  SharedMemoryGroup group_;
  std::uint32_t rank_;
  std::uint32_t world_size_;
  float scale_;
  std::uint32_t round_ = 0;  // this rank's counter; begins again after 2^32
};

}  // namespace llmlaunch::trainer
