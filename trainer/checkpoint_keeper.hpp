/// \file
/// When a job's state goes to its checkpoints, and which of them is the best: on rank 0, whose copy is the state of
/// all.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/checkpoint_writer.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {

class CheckpointKeeper {
 public:
  /// The job outlives it. Tests write something else, and wait less for what is slow.
  explicit CheckpointKeeper(TrainingJob& job, CheckpointWriter::Write write = save_checkpoint,
                            std::chrono::milliseconds patience = kPatience);

  /// The state after the job's step, written while the next steps run. One that is not finite is not written: an error
  /// or a warning, as --on_nan says. Nothing on other ranks.
  Result<void> save();
  /// As `save`, where the job has just been tested and is better than the best so far.
  Result<void> save_if_best();
  /// As `save`, unless that step's is there or on its way.
  Result<void> save_once();
  /// Waits for the one that is being written. One that is not on the disk is not the best.
  void settle();
  /// As `settle`, where that takes no longer than `limit`.
  void settle_within(std::chrono::milliseconds limit) {
    if (!writer_.is_writing_after(limit)) settle();
  }
  /// Waits for the last. The error counts those that are missing.
  Result<void> finish() { return writer_.finish(); }
  /// The last one that is on the disk; empty when there is none.
  const std::string& last() const { return writer_.last(); }
  /// Whether that is the one of the job's step.
  bool has_saved() const;

 private:
  /// A wait for the checkpoint before that is worth a word.
  static constexpr std::chrono::milliseconds kPatience{1000};

  void wait_for_last();
  bool is_just_tested() const { return job_.last_test && job_.last_test->step == job_.step; }
  void compare_with_best();
  Result<void> refuse(const std::string& found);

  TrainingJob& job_;
  CheckpointWriter writer_;
  const std::chrono::milliseconds patience_;
  bool said_slow_ = false;
  std::uint64_t looked_step_ = 0;         // the last whose state was saved, or refused
  std::optional<BestModel> best_before_;  // the one that is being written
};

}  // namespace llmlaunch::trainer
