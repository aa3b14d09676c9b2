/// \file
/// Batches in a fixed order, filled where they are asked for or by threads that are some ahead. Who fills makes no
/// difference to what is in them. Used by the training loop.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

struct FilledBatch {
  std::vector<float> images;         // (B, 1, 28, 28)
  std::vector<std::uint8_t> labels;  // (B)
};

/// Batches that are ready or being filled per thread, beside the one in use; PyTorch's prefetch_factor.
inline constexpr std::size_t kBatchesAhead = 2;

class BatchLoader {
 public:
  /// Fills batch `index`; whatever it refers to it owns. Called by several threads at once, for different batches.
  using Fill = std::function<Result<void>(std::uint64_t index, FilledBatch& into)>;

  /// `workers` threads; none: `next` fills. `Errc::out_of_resources` when they cannot be started.
  static Result<std::unique_ptr<BatchLoader>> make(std::uint32_t workers);
  /// Waits for batches that are being filled.
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// From now on batches `first` … `last` - 1 come; what is left of earlier ones is dropped.
  void begin(std::uint64_t first, std::uint64_t last, Fill fill);
  /// The next one, good until the next call; or the error of its filling, which it has in its place in the order.
  /// `Errc::internal` after the last.
  Result<const FilledBatch*> next();

 private:
  explicit BatchLoader(std::uint32_t workers) : slots_(workers * kBatchesAhead + 1) {}

  struct Slot {
    FilledBatch batch;
    std::optional<Result<void>> filled;  // nothing while it is being filled
  };
  bool may_fill() const { return to_fill_ < last_ && to_fill_ < taken_ + slots_.size() - 1; }
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  Fill fill_;
  std::uint64_t to_fill_ = 0, taken_ = 0, last_ = 0;  // the next to be filled, the next to be taken, the end
  std::size_t filling_ = 0;
  bool stopping_ = false;
  std::vector<Slot> slots_;  // batch i is in slot i mod their number; one is that in use
  std::vector<std::thread> threads_;
};

}  // namespace llmlaunch::trainer
