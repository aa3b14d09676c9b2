// Which state becomes a checkpoint, and which is the best. Called by the training loop; the files are
// checkpoint_writer's.
#include "trainer/checkpoint_keeper.hpp"

#include <fmt/format.h>

#include <utility>

#include "trainer/best_model.hpp"
#include "trainer/divergence.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {

namespace {

/// The process does not end before it has returned.
CheckpointWriter::Write waited_for(CheckpointWriter::Write write) {
  return [write = std::move(write)](const std::string& output_dir, const TrainingState& state) {
    struct Mark {
      ~Mark() { end_writing(); }
    };
    const Mark mark;
    return write(output_dir, state);
  };
}

}  // namespace

CheckpointKeeper::CheckpointKeeper(TrainingJob& job, CheckpointWriter::Write write, std::chrono::milliseconds patience)
    : job_(job),
      writer_(
          job.options.output_dir, job.options.save_total_limit,
          [&job](const Error& error) { job.story.warn(fmt::format("{}; training goes on", to_string(error))); },
          waited_for(std::move(write))),
      patience_(patience) {}

Result<void> CheckpointKeeper::save() {
  if (job_.world.rank != 0) return ok;
  wait_for_last();
  looked_step_ = job_.step;
  auto state = state_after({.done = job_.step, .skipped = job_.skipped, .loss_scale = job_.loss_scale}, job_.options,
                           job_.run, job_.story.course, job_.comm, job_.backend);
  if (!state) return state.error();
  if (const auto found = find_not_finite(*state)) return refuse(*found);
  compare_with_best();
  state->course.best = job_.story.course.best;
  if (!begin_writing()) return ok;  // the process ends
  if (!writer_.save(std::move(*state))) end_writing();
  return ok;
}

Result<void> CheckpointKeeper::save_if_best() {
  if (job_.world.rank != 0 || !is_just_tested()) return ok;
  wait_for_last();  // one that is not on the disk is not to be beaten
  return is_better(job_.options, *job_.last_test, job_.story.course.best) ? save() : Result<void>(ok);
}

/// Once, for whoever wonders why the job is slow.
void CheckpointKeeper::wait_for_last() {
  if (!said_slow_ && writer_.is_writing_after(patience_)) {
    said_slow_ = true;
    job_.story.warn(fmt::format(
        "after step {}: the checkpoint of step {} is still being written, and training waits for it: the disk takes "
        "longer than the steps between two checkpoints",
        job_.step, looked_step_));
  }
  settle();
}

/// Nobody could go on from such a state, and a good checkpoint would go for it.
Result<void> CheckpointKeeper::refuse(const std::string& found) {
  const std::string& good = writer_.last();
  const std::string what = fmt::format("after step {}: {}, and no checkpoint is written; {}", job_.step, found,
                                       good.empty() ? "this run has written none" : "the last good one is " + good);
  if (job_.options.on_nan == OnNan::stop) {
    return divergence(what, job_.world.world_size == 1 ? std::string() : "rank 0 on " + job_.world.host,
                      job_.as_diverged());
  }
  job_.story.warn(what);
  return ok;
}

Result<void> CheckpointKeeper::save_once() {
  return looked_step_ == job_.step ? Result<void>(ok) : save();
}

bool CheckpointKeeper::has_saved() const {
  return writer_.last() == checkpoint_folder(job_.options.output_dir, job_.step);
}

void CheckpointKeeper::settle() {
  auto& best = job_.story.course.best;
  if (!writer_.settle() && best && best->step == looked_step_) best = best_before_;
}

void CheckpointKeeper::compare_with_best() {
  auto& best = job_.story.course.best;
  if (!is_just_tested() || !is_better(job_.options, *job_.last_test, best)) return;
  best_before_ = best;
  best = BestModel{.metric = *value_in(*job_.last_test, record_name(*job_.options.metric_for_best_model)),
                   .step = job_.step,
                   .checkpoint = checkpoint_folder(job_.options.output_dir, job_.step),
                   .by = yardstick(job_.options)};
}

}  // namespace llmlaunch::trainer
