// The start of a job: from its seed, or from a checkpoint. Called by the training loop.
#include "trainer/resume.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <type_traits>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "trainer/agreement.hpp"
#include "trainer/best_model.hpp"
#include "trainer/dealing.hpp"
#include "trainer/init.hpp"
#include "trainer/job_facts.hpp"

namespace llmlaunch::trainer {
namespace {

/// The folder that a checkpoint lies in.
std::filesystem::path folder_around(const std::string& checkpoint) {
  const std::filesystem::path path(checkpoint);
  return path.has_filename() ? path.parent_path() : path.parent_path().parent_path();  // "run/checkpoint-4/"
}

/// A job that goes on from a checkpoint elsewhere would mix its own with those that output_dir has.
Result<void> check_no_others(const std::string& output_dir, const std::string& checkpoint) {
  if (output_dir.empty()) return ok;
  const auto other = newest_checkpoint_name(output_dir);
  if (!other) return other.error();
  const std::filesystem::path around = folder_around(checkpoint);
  std::error_code ignored;  // then they are not the same
  if (other->empty() || std::filesystem::equivalent(around.empty() ? "." : around, output_dir, ignored)) return ok;
  return make_error(Errc::invalid_argument, fmt::format("holds checkpoints, and {} is of another job", checkpoint),
                    *other, "go on in that one's folder, or in an --output_dir without checkpoints");
}

/// What is the best by another metric cannot be compared with what this job tests.
void settle_best(Course& course, const TrainOptions& options, const std::string& checkpoint) {
  if (!course.best) return;
  if (options.metric_for_best_model && !course.best->by.metric.empty() && course.best->by != yardstick(options)) {
    const auto words = [](const Yardstick& by) {
      return fmt::format("the {} {}", by.greater_is_better ? "greatest" : "least", by.metric);
    };
    log_warning("{}: the best model, of step {}, was that with {}, and is sought by {} now: it no longer counts",
                checkpoint, course.best->step, words(course.best->by), words(yardstick(options)));
    course.best.reset();
    return;
  }
  // The folder may have another name by now, or another way to it.
  const std::string here = checkpoint_folder(folder_around(checkpoint).string(), course.best->step);
  std::error_code ignored;  // then it stays as it is told
  if (std::filesystem::is_directory(here, ignored)) course.best->checkpoint = here;
}

/// Whether the checkpoint's history has the test of its step. Where no step is left, one that is not the newest of
/// output_dir stays as it is, and so does what was told of later steps.
bool has_test(const TrainingState& state, const TrainOptions& options, const RunFacts& run) {
  if (state.step >= run.plan.max_steps) {
    const auto newest = newest_checkpoint_name(options.output_dir);
    const std::string own = checkpoint_folder(options.output_dir, state.step);
    if (options.output_dir.empty() || !newest || *newest != own) return true;
  }
  const auto& history = state.course.history;
  return std::any_of(history.begin(), history.end(), [&](const LogRecord& record) {
    return record.step == state.step && value_in(record, record_name(Metric::loss));
  });
}

/// What to do about a checkpoint that is damaged or none; one that cannot be read now may be good.
Error with_hint(Error error, const char* hint) {
  if (error.code == Errc::invalid_config && error.hint.empty()) error.hint = hint;
  return error;
}

/// The checkpoint that --resume_from_checkpoint names. A folder that has checkpoints is none, as for Hugging Face's
/// Trainer: which of them is meant is to be said.
Result<TrainingState> load_named(const std::string& folder) {
  auto state = load_checkpoint(folder);
  if (state) return state;
  if (state.error().code == Errc::not_found) {
    Error error = state.error();
    error.hint = "--resume_from_checkpoint takes the folder of a checkpoint, or true for the last one of --output_dir";
    return error;
  }
  const auto last = newest_checkpoint_name(folder);
  if (!last || last->empty()) return state;
  return make_error(Errc::invalid_argument,
                    fmt::format("is an output_dir and no checkpoint; its last checkpoint is {}", *last), folder,
                    fmt::format("write --resume_from_checkpoint {}, or --output_dir {} --resume_from_checkpoint true",
                                *last, folder));
}

/// On rank 0: the checkpoint that is meant, or nothing for a new start.
Result<std::optional<FoundCheckpoint>> wanted_checkpoint(const TrainOptions& options) {
  if (options.resume_from_checkpoint == kLastCheckpoint) {
    auto last = find_last_checkpoint(options.output_dir);
    if (last) return last;
    return with_hint(last.error(),
                     "no other checkpoint here is whole; without these, or in another --output_dir, the job "
                     "starts anew");
  }
  if (!options.resume_from_checkpoint.empty()) {
    auto state = load_named(options.resume_from_checkpoint);
    if (!state) {
      return with_hint(state.error(), "--resume_from_checkpoint true takes the newest one of output_dir that is whole");
    }
    if (auto alone = check_no_others(options.output_dir, options.resume_from_checkpoint); !alone) return alone.error();
    return FoundCheckpoint{options.resume_from_checkpoint, std::move(*state), {}};
  }
  if (options.output_dir.empty()) return std::optional<FoundCheckpoint>();
  const auto other = newest_checkpoint_name(options.output_dir);
  if (!other) return other.error();
  if (other->empty()) return std::optional<FoundCheckpoint>();
  return make_error(Errc::invalid_argument, "holds checkpoints of an earlier job", *other,
                    "--resume_from_checkpoint true goes on from it; another --output_dir starts anew");
}

/// What a rank tells the others of its output_dir: the newest checkpoint there. Nothing where --resume_from_checkpoint
/// is not true, or nothing can be seen.
std::string newest_here(const TrainOptions& options) {
  if (options.resume_from_checkpoint != kLastCheckpoint || options.output_dir.empty()) return {};
  const std::string newest = newest_checkpoint_name(options.output_dir).value_or("");
  return is_own_checkpoint(newest) ? newest : std::string();
}

/// The order of the hosts is that of the ranks. Rank 0 may be on another host than in the run before, with an
/// output_dir of its own: then what the job has learnt is not to be left behind in silence.
/// `told`: of each rank, its host, a line's end and `newest_here`.
Result<void> check_whose(const TrainOptions& options, const std::vector<std::string>& told) {
  const auto parts = [&](std::size_t rank) {
    const std::size_t end = told[rank].find('\n');
    return std::pair(told[rank].substr(0, end), end == std::string::npos ? "" : told[rank].substr(end + 1));
  };
  const auto [own_host, own] = parts(0);
  for (std::size_t rank = 1; rank < told.size(); ++rank) {
    const auto [host, other] = parts(rank);
    if (other.empty() || !own.empty()) continue;
    return make_error(Errc::invalid_argument,
                      fmt::format("has no checkpoint on {}, where rank 0 is now, and {} is on {} (rank {})", own_host,
                                  other, host, rank),
                      options.output_dir,
                      fmt::format("list {} first, for rank 0 reads and writes them; or copy that folder to {}; or "
                                  "start anew in another --output_dir",
                                  host, own_host));
  }
  return ok;
}

/// Of a job that is not refused. What a killed one has left may be the room that the first checkpoint needs.
Result<void> make_room(const TrainOptions& options) {
  if (options.save_strategy == SaveStrategy::no) return ok;
  if (const auto removed = remove_unfinished_saves(options.output_dir, options.resume_from_checkpoint); !removed) {
    log_warning("{}", to_string(removed.error()));
  }
  return prepare_output(options.output_dir);
}

Result<Start> load_on_rank_0(const TrainOptions& options, const RunFacts& run, std::uint32_t ranks, Backend& backend,
                             const std::function<void(const std::string&)>& say, Course& course) {
  const auto found = wanted_checkpoint(options);
  if (!found) return found.error();
  if (!*found) {
    if (auto prepared = make_room(options); !prepared) return prepared.error();
    if (!options.resume_from_checkpoint.empty()) say("no checkpoint yet: training starts anew");
    if (auto loaded = backend.load_parameters(initial_parameters(backend.model(), options.seed)); !loaded)
      return loaded.error();
    return Start{.steps = {}, .optimizer = run.optimizer};
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
  const Dealing then{.accounting = state.accounting, .ranks = state.world_size};
  if (auto dealt = check_dealing(then, {.accounting = run.accounting, .ranks = ranks}, checkpoint.folder); !dealt) {
    return dealt.error();
  }
  if (auto prepared = make_room(options); !prepared) return prepared.error();
  if (auto loaded = backend.load_parameters(state.parameters); !loaded) return loaded.error();
  if (auto loaded = backend.load_moments({state.first_moment, state.second_moment}); !loaded) return loaded.error();
  say(fmt::format("goes on after step {} from {}", state.step, checkpoint.folder));
  // Where nothing is left to train, no course is left either.
  if (!options.output_dir.empty() && state.step < run.plan.max_steps) {
    const auto aside = set_aside_later(options.output_dir, state.step);
    if (!aside) return aside.error();
    if (!aside->empty()) {
      log_warning("later checkpoints are renamed, for training goes on from step {}: {}", state.step,
                  fmt::join(*aside, ", "));
    }
  }
  if (const std::string changed = changed_flags(state, run.optimizer, run.flags); !changed.empty()) {
    log_warning("{}: {}", checkpoint.folder, changed);
  }
  course = state.course;
  settle_best(course, options, checkpoint.folder);
  return Start{.steps = {.done = state.step, .skipped = state.skipped, .loss_scale = state.loss_scale},
               .optimizer = state.optimizer.value_or(run.optimizer),
               .tested = has_test(state, options, run)};
}

}  // namespace

Result<Start> start_state(const TrainOptions& options, const std::string& host, const RunFacts& run, Comm& comm,
                          Backend& backend, const std::function<void(const std::string&)>& say, Course& course) {
  const auto told = gather_texts(comm, host + "\n" + newest_here(options));
  if (!told) return told.error();
  Start start;
  Error refusal = make_error(Errc::canceled, {});
  if (comm.rank() == 0) {
    auto whose = check_whose(options, *told);
    const auto loaded =
        whose ? load_on_rank_0(options, run, comm.world_size(), backend, say, course) : Result<Start>(whose.error());
    if (loaded) {
      start = *loaded;
    } else {
      refusal = loaded.error();
      start.refused = true;
    }
  }
  static_assert(std::is_trivially_copyable_v<Start>, "it goes to the other ranks, of the same program, as it is");
  const auto all = comm.all_gather(std::as_bytes(std::span(&start, 1)));
  if (!all) return all.error();
  std::memcpy(&start, all->front().data(), sizeof start);
  if (start.refused) return told_once(comm, std::move(refusal));
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
  state.loss_scale = steps.loss_scale;
  state.epoch = epochs_after(run.length, steps.done);
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
