// One checkpoint at a time, on a thread of its own.
#include "trainer/checkpoint_writer.hpp"

#include <fmt/format.h>

#include <utility>

namespace llmlaunch::trainer {

CheckpointWriter::CheckpointWriter(std::string output_dir, std::uint32_t keep,
                                   std::function<void(const Error&)> on_failure)
    : output_dir_(std::move(output_dir)), keep_(keep), on_failure_(std::move(on_failure)) {}

void CheckpointWriter::save(TrainingState state) {
  settle();
  best_step_ = state.course.best ? std::optional(state.course.best->step) : std::nullopt;
  running_ =
      std::async(std::launch::async, [this, state = std::move(state)] { return save_checkpoint(output_dir_, state); });
}

bool CheckpointWriter::settle() {
  if (!running_.valid()) return true;
  auto folder = running_.get();
  if (!folder) {
    if (failed_++ == 0) first_failure_ = folder.error().code;
    on_failure_(folder.error());
    return false;
  }
  ++saved_;
  last_ = std::move(*folder);
  // Only now, so that the last good one is never the one that goes.
  if (const auto pruned = prune_checkpoints(output_dir_, keep_, best_step_); !pruned) on_failure_(pruned.error());
  return true;
}

Result<void> CheckpointWriter::finish() {
  settle();
  if (failed_ == 0) return ok;
  std::string good = last_;
  if (good.empty()) {
    // One of an earlier run.
    if (const auto found = find_last_checkpoint(output_dir_); found && *found) good = (*found)->folder;
  }
  Error error = make_error(
      Errc::internal, fmt::format("{} of {} checkpoints could not be written", failed_, failed_ + saved_), output_dir_,
      good.empty() ? "none is on the disk; see the warnings above"
                   : fmt::format("the last good one is {}; see the warnings above", good));
  error.code = first_failure_;
  return error;
}

}  // namespace llmlaunch::trainer
