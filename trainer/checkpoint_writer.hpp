/// \file
/// Writes checkpoints beside the training: the state is handed over as a copy, and a thread puts it on the disk while
/// the next steps run. Used by rank 0, by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/checkpoint.hpp"

namespace llmlaunch::trainer {

class CheckpointWriter {
 public:
  /// How one is written; tests put something else there.
  using Write = std::function<Result<std::string>(const std::string& output_dir, const TrainingState& state)>;

  /// `keep`: how many checkpoints stay (0: all), the best one of a state's course among them. `on_failure` is told of
  /// each that could not be written, and of old ones that could not be removed, by the thread that calls `save` or
  /// `finish`: training goes on without them.
  CheckpointWriter(std::string output_dir, std::uint32_t keep, std::function<void(const Error&)> on_failure,
                   Write write = save_checkpoint);

  /// Waits for the one before, should that still be on its way. Where no thread or memory is left, this one counts as
  /// one that could not be written: false, and `write` is not called.
  bool save(TrainingState state);

  /// Whether one is on its way, and still is when so much time has passed.
  bool is_writing_after(std::chrono::milliseconds time) const;

  /// Waits for the one that is on its way, if there is one: false when it could not be written.
  bool settle();

  /// Waits for the last. The error counts those that are missing: "2 of 5 checkpoints could not be written".
  Result<void> finish();

  /// The last one that is on the disk; empty when there is none.
  const std::string& last() const { return last_; }

 private:
  void failed(const Error& error);

  std::string output_dir_;
  std::uint32_t keep_;
  std::function<void(const Error&)> on_failure_;
  Write write_;
  std::future<Result<std::string>> running_;
  std::optional<std::uint64_t> best_step_;  // of the state that was saved last
  std::string last_;
  std::uint64_t saved_ = 0;
  std::uint64_t failed_ = 0;
  std::error_code first_failure_;
  bool not_begun_ = false;  // the one that was saved last
};

}  // namespace llmlaunch::trainer
