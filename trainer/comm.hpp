/// \file
/// The one collective interface of the trainer: what DDP needs from a group of ranks, whoever moves the bytes. Bodies:
/// `LocalComm` (one process), `GlooComm` (CPU, over TCP and shared memory), `NcclComm` (GPU, trainer/cuda/).
///
/// Rules for callers, as for every collective: each rank calls the same functions in the same order with the same
/// sizes. One thread at a time. After the first error every further call gives that error again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class Comm {
 public:
  virtual ~Comm() = default;
  Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  virtual std::uint32_t rank() const = 0;
  virtual std::uint32_t world_size() const = 0;
  /// Who moves the bytes, for the first line of the log: "gloo on 10.0.0.7".
  virtual std::string description() const = 0;

  /// Averages `values` over the ranks, in place: each value × 1/world_size, then the sum, as PyTorch's DDP. Only starts
  /// it; `values` (memory of the backend's device) must live and rest until `wait`. Reductions run in the order
  /// started.
  virtual Result<void> start_all_reduce_mean(std::span<float> values) = 0;

  /// Until every reduction started has its result (for a GPU: until work queued from now on will see it).
  /// `Errc::closed` names the rank that was lost, `Errc::timed_out` a collective that took longer than the limit.
  virtual Result<void> wait() = 0;

  /// The same for a device: what is queued on it from now on sees the results, and the host may go on. May be captured
  /// into a CUDA graph, as `start_all_reduce_mean`.
  virtual Result<void> join() { return wait(); }

  /// Whether `join` keeps the host until all ranks have come, equally often on each. Where it does not, ranks may
  /// differ in how often they call it.
  virtual bool join_waits() const { return true; }

  /// Until the device has done all that was queued on it, watching the other ranks as `wait` does.
  virtual Result<void> drain() { return wait(); }

  /// Rank 0's values to all. Memory of the backend's device.
  virtual Result<void> broadcast(std::span<float> values) = 0;

  /// A few bytes of host memory from every rank, equally many from each; index = rank.
  virtual Result<std::vector<Bytes>> all_gather(ByteView mine) = 0;

  virtual Result<void> barrier() = 0;

  /// Leaves the group in order: returns when no rank needs any other's connection any more.
  virtual Result<void> finish() = 0;
};

/// The world of one process: everything is its own mean.
class LocalComm final : public Comm {
 public:
  std::uint32_t rank() const override { return 0; }
  std::uint32_t world_size() const override { return 1; }
  std::string description() const override { return "one process"; }
  Result<void> start_all_reduce_mean(std::span<float>) override { return ok; }
  Result<void> wait() override { return ok; }
  Result<void> broadcast(std::span<float>) override { return ok; }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    return std::vector<Bytes>{Bytes(mine.begin(), mine.end())};
  }
  Result<void> barrier() override { return ok; }
  Result<void> finish() override { return ok; }
};

}  // namespace llmlaunch::trainer
