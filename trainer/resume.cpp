// The start of a job: from its seed, or from a checkpoint. Called by the training loop.
#include "trainer/resume.hpp"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "trainer/init.hpp"
#include "trainer/job_facts.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr const char* kDealtHint =
    "go on with the same data and flags, and as many images per step (ranks x batch x accumulation), or start anew in "
    "another --output_dir";

/// Which number differs, with both values.
std::string difference(const SampleAccounting& then, const SampleAccounting& now) {
  const auto differs = [](const char* name, auto a, auto b) { return fmt::format("{} was {} and is {}", name, a, b); };
  if (then.images != now.images) return differs("the number of training images", then.images, now.images);
  if (then.images_per_step != now.images_per_step) {
    return differs("the number of images per step", then.images_per_step, now.images_per_step);
  }
  if (then.steps_per_epoch != now.steps_per_epoch) {
    return differs("the number of steps per epoch", then.steps_per_epoch, now.steps_per_epoch);
  }
  if (then.data_seed != now.data_seed) return differs("the seed of their order", then.data_seed, now.data_seed);
  return differs("--dataloader_drop_last", then.drop_last, now.drop_last);
}

/// On rank 0: the checkpoint that is meant, or nothing for a new start.
Result<std::optional<FoundCheckpoint>> wanted_checkpoint(const TrainOptions& options) {
  if (options.resume_from_checkpoint == kLastCheckpoint) return find_last_checkpoint(options.output_dir);
  if (!options.resume_from_checkpoint.empty()) {
    auto state = load_checkpoint(options.resume_from_checkpoint);
    if (!state) return state.error();
    return FoundCheckpoint{options.resume_from_checkpoint, std::move(*state), {}};
  }
  if (options.output_dir.empty()) return std::optional<FoundCheckpoint>();
  const auto other = newest_checkpoint_name(options.output_dir);
  if (!other) return other.error();
  if (other->empty()) return std::optional<FoundCheckpoint>();
  return make_error(Errc::invalid_argument, "holds checkpoints of an earlier job", *other,
                    "--resume_from_checkpoint true goes on from it; another --output_dir starts anew");
}

Result<Start> load_on_rank_0(const TrainOptions& options, const RunFacts& run, Backend& backend,
                             const std::function<void(const std::string&)>& say, Course& course) {
  const auto found = wanted_checkpoint(options);
  if (!found) return found.error();
  if (options.save_strategy != SaveStrategy::no) {
    if (auto prepared = prepare_output(options.output_dir); !prepared) return prepared.error();
  }
  if (!*found) {
    if (!options.resume_from_checkpoint.empty()) say("no checkpoint yet: training starts anew");
    if (auto loaded = backend.load_parameters(initial_parameters(backend.model(), options.seed)); !loaded)
      return loaded.error();
    return Start{{}, run.optimizer};
  }
  const FoundCheckpoint& checkpoint = **found;
  for (const Error& damaged : checkpoint.damaged) log_warning("{}; passed over", to_string(damaged));
  const TrainingState& state = checkpoint.state;
  if (state.model != &backend.model()) {
    return make_error(Errc::invalid_argument,
                      fmt::format("is of model {}, and --model is {}", state.model->name, backend.model().name),
                      checkpoint.folder,
                      fmt::format("go on with --model {}, or start anew in another --output_dir", state.model->name));
  }
  if (state.accounting != run.accounting) {
    return make_error(
        Errc::invalid_argument,
        fmt::format("{}, so that images would be seen twice or never", difference(state.accounting, run.accounting)),
        checkpoint.folder, kDealtHint);
  }
  if (auto loaded = backend.load_parameters(state.parameters); !loaded) return loaded.error();
  if (auto loaded = backend.load_moments({state.first_moment, state.second_moment}); !loaded) return loaded.error();
  say(fmt::format("goes on after step {} from {}", state.step, checkpoint.folder));
  // Where nothing is left to train, no course is left either.
  if (!options.output_dir.empty() && state.step < run.plan.max_steps) {
    const auto aside = set_aside_later(options.output_dir, state.step);
    if (!aside) return aside.error();
    if (!aside->empty()) log_warning("later checkpoints of the course that is left: {}", fmt::join(*aside, ", "));
  }
  if (const std::string changed = changed_flags(state, run.optimizer, run.flags); !changed.empty()) {
    log_warning("{}: {}", checkpoint.folder, changed);
  }
  course = state.course;
  if (course.best && !options.output_dir.empty()) {
    // The folder may have another name by now, or another way to it.
    const std::string here = checkpoint_folder(options.output_dir, course.best->step);
    std::error_code ignored;  // then it stays as it is told
    if (std::filesystem::is_directory(here, ignored)) course.best->checkpoint = here;
  }
  return Start{{.done = state.step, .skipped = state.skipped}, state.optimizer.value_or(run.optimizer)};
}

}  // namespace

Result<Start> start_state(const TrainOptions& options, const RunFacts& run, Comm& comm, Backend& backend,
                          const std::function<void(const std::string&)>& say, Course& course) {
  Start start;
  if (comm.rank() == 0) {
    const auto loaded = load_on_rank_0(options, run, backend, say, course);
    if (!loaded) return loaded.error();
    start = *loaded;
  }
  const auto all = comm.all_gather(std::as_bytes(std::span(&start, 1)));
  if (!all) return all.error();
  std::memcpy(&start, all->front().data(), sizeof start);
  const OptimizerNumbers& numbers = start.optimizer;
  backend.use_adamw({.weight_decay = numbers.weight_decay,
                     .beta1 = numbers.beta1,
                     .beta2 = numbers.beta2,
                     .epsilon = numbers.epsilon});
  if (auto sent = comm.broadcast(backend.parameters()); !sent) return sent.error();
  if (start.steps.done == 0) return start;
  for (const std::span<float> moment : backend.moments()) {
    if (auto sent = comm.broadcast(moment); !sent) return sent.error();
  }
  return start;
}

Result<TrainingState> state_after(const Steps& steps, const TrainOptions& options, const RunFacts& run,
                                  const Course& course, const Comm& comm, Backend& backend) {
  auto parameters = backend.copy_parameters();
  if (!parameters) return parameters.error();
  auto moments = backend.copy_moments();
  if (!moments) return moments.error();
  TrainingState state;
  state.model = &backend.model();
  state.step = steps.done;
  state.skipped = steps.skipped;
  state.epoch = static_cast<double>(steps.done) / static_cast<double>(run.accounting.steps_per_epoch);
  state.seed = options.seed;
  state.world_size = comm.world_size();
  state.accounting = run.accounting;
  state.plan = run.plan;
  state.course = course;
  state.optimizer = run.optimizer;
  state.flags = run.flags;
  state.parameters = std::move(*parameters);
  state.first_moment = std::move(moments->first);
  state.second_moment = std::move(moments->second);
  return state;
}

Result<bool> load_best(const std::optional<BestModel>& best, Comm& comm, Backend& backend,
                       std::optional<Error>& missing) {
  bool loaded = false;
  if (comm.rank() == 0 && best) {
    const auto state = load_checkpoint(best->checkpoint);
    if (state) {
      if (auto put = backend.load_parameters(state->parameters); !put) return put.error();
      loaded = true;
    } else {
      log_warning("the best model, of step {}, cannot be read: {}; the last step's weights stay", best->step,
                  to_string(state.error()));
      missing = state.error();
    }
  }
  const auto all = comm.all_gather(std::as_bytes(std::span(&loaded, 1)));
  if (!all) return all.error();
  std::memcpy(&loaded, all->front().data(), sizeof loaded);
  if (!loaded) return false;
  if (auto sent = comm.broadcast(backend.parameters()); !sent) return sent.error();
  return true;
}

}  // namespace llmlaunch::trainer
