#include "trainer/checkpoint_keeper.hpp"

#include <fmt/format.h>

#include <utility>

#include "trainer/best_model.hpp"
#include "trainer/divergence.hpp"

namespace llmlaunch::trainer {

CheckpointKeeper::CheckpointKeeper(TrainingJob& job)
    : job_(job), writer_(job.options.output_dir, job.options.save_total_limit, [&job](const Error& error) {
        job.story.warn(fmt::format("{}; training goes on", to_string(error)));
      }) {}

Result<void> CheckpointKeeper::save() {
  if (job_.world.rank != 0) return ok;
  settle();
  looked_step_ = job_.step;
  auto state = state_after({.done = job_.step, .skipped = job_.skipped, .loss_scale = job_.loss_scale}, job_.options,
                           job_.run, job_.story.course, job_.comm, job_.backend);
  if (!state) return state.error();
  if (const auto found = find_not_finite(*state)) return refuse(*found);
  compare_with_best();
  state->course.best = job_.story.course.best;
  writer_.save(std::move(*state));
  return ok;
}

/// Nobody could go on from such a state, and a good checkpoint would go for it.
Result<void> CheckpointKeeper::refuse(const std::string& found) {
  const std::string& good = writer_.last();
  const std::string what = fmt::format("after step {}: {}, and no checkpoint is written; {}", job_.step, found,
                                       good.empty() ? "this run has written none" : "the last good one is " + good);
  if (job_.options.on_nan == OnNan::stop) {
    return divergence(what, job_.world.world_size == 1 ? std::string() : "rank 0 on " + job_.world.host,
                      job_.is_resumed());
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
  const auto& test = job_.last_test;
  if (!test || test->step != job_.step || !is_better(job_.options, *test, best)) return;
  best_before_ = best;
  best = BestModel{.metric = *value_in(*test, record_name(*job_.options.metric_for_best_model)),
                   .step = job_.step,
                   .checkpoint = checkpoint_folder(job_.options.output_dir, job_.step),
                   .by = yardstick(job_.options)};
}

}  // namespace llmlaunch::trainer
