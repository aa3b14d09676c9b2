// One checkpoint at a time, on a thread of its own.
#include "trainer/checkpoint_writer.hpp"

#include <fmt/format.h>

#include <new>
#include <system_error>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "rendezvous/base/thread_limits.hpp"

namespace llmlaunch::trainer {
namespace {

Error no_memory_for(const std::string& folder) {
  return make_error(Errc::out_of_resources, "no memory to write it", folder);
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::string output_dir, std::uint32_t keep,
                                   std::function<void(const Error&)> on_failure, Write write)
    : output_dir_(std::move(output_dir)), keep_(keep), on_failure_(std::move(on_failure)), write_(std::move(write)) {}

bool CheckpointWriter::save(TrainingState state) {
  settle();
  best_step_ = state.course.best ? std::optional(state.course.best->step) : std::nullopt;
  const std::string folder = checkpoint_folder(output_dir_, state.step);
  try {
    running_ = std::async(std::launch::async, [this, folder, state = std::move(state)]() -> Result<std::string> {
      try {
        return write_(output_dir_, state);
      } catch (const std::bad_alloc&) {
        return no_memory_for(folder);
      }
    });
  } catch (const std::bad_alloc&) {
    not_begun_ = true;
    failed(no_memory_for(folder));
  } catch (const std::system_error& e) {
    not_begun_ = true;
    failed(make_error(Errc::out_of_resources,
                      fmt::format("no thread can be started to write it: {}", e.code().message()), folder,
                      kSeeThreadLimits));
  }
  return !not_begun_;
}

bool CheckpointWriter::is_writing_after(std::chrono::milliseconds time) const {
  return running_.valid() && running_.wait_for(time) != std::future_status::ready;
}

void CheckpointWriter::failed(const Error& error) {
  if (failed_++ == 0) first_failure_ = error.code;
  on_failure_(error);
}

bool CheckpointWriter::settle() {
  if (!running_.valid()) return !std::exchange(not_begun_, false);
  auto folder = running_.get();
  if (!folder) {
    failed(folder.error());
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
  return Error{first_failure_,
               fmt::format("{} of {} could not be written", failed_, counted(failed_ + saved_, "checkpoint")),
               output_dir_,
               good.empty() ? "none is on the disk; see the warnings above"
                            : fmt::format("the last good one is {}; see the warnings above", good)};
}

}  // namespace llmlaunch::trainer
