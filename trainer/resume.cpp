// The start of a job: from its seed, or from a checkpoint. Called by the training loop.
#include "trainer/resume.hpp"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "trainer/init.hpp"

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

Result<Steps> load_on_rank_0(const TrainOptions& options, const SampleAccounting& accounting, Backend& backend,
                             const std::function<void(const std::string&)>& say) {
  const auto found = wanted_checkpoint(options);
  if (!found) return found.error();
  if (options.save_strategy != SaveStrategy::no) {
    if (auto prepared = prepare_output(options.output_dir); !prepared) return prepared.error();
  }
  if (!*found) {
    if (!options.resume_from_checkpoint.empty()) say("no checkpoint yet: training starts anew");
    if (auto loaded = backend.load_parameters(initial_parameters(backend.model(), options.seed)); !loaded)
      return loaded.error();
    return Steps{};
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
  if (state.accounting != accounting) {
    return make_error(
        Errc::invalid_argument,
        fmt::format("{}, so that images would be seen twice or never", difference(state.accounting, accounting)),
        checkpoint.folder, kDealtHint);
  }
  if (auto loaded = backend.load_parameters(state.parameters); !loaded) return loaded.error();
  if (auto loaded = backend.load_moments({state.first_moment, state.second_moment}); !loaded) return loaded.error();
  say(fmt::format("goes on after step {} from {}", state.step, checkpoint.folder));
  if (!options.output_dir.empty()) {
    const auto aside = set_aside_later(options.output_dir, state.step);
    if (!aside) return aside.error();
    if (!aside->empty()) log_warning("later checkpoints of the course that is left: {}", fmt::join(*aside, ", "));
  }
  return Steps{.done = state.step, .skipped = state.skipped};
}

}  // namespace

Result<Steps> start_state(const TrainOptions& options, const SampleAccounting& accounting, Comm& comm, Backend& backend,
                          const std::function<void(const std::string&)>& say) {
  Steps steps;
  if (comm.rank() == 0) {
    const auto loaded = load_on_rank_0(options, accounting, backend, say);
    if (!loaded) return loaded.error();
    steps = *loaded;
  }
  const auto all = comm.all_gather(std::as_bytes(std::span(&steps, 1)));
  if (!all) return all.error();
  std::memcpy(&steps, all->front().data(), sizeof steps);
  if (auto sent = comm.broadcast(backend.parameters()); !sent) return sent.error();
  if (steps.done == 0) return steps;
  for (const std::span<float> moment : backend.moments()) {
    if (auto sent = comm.broadcast(moment); !sent) return sent.error();
  }
  return steps;
}

Result<TrainingState> state_after(const Steps& steps, const TrainOptions& options, const SampleAccounting& accounting,
                                  const Comm& comm, Backend& backend) {
  auto parameters = backend.copy_parameters();
  if (!parameters) return parameters.error();
  auto moments = backend.copy_moments();
  if (!moments) return moments.error();
  TrainingState state;
  state.model = &backend.model();
  state.step = steps.done;
  state.skipped = steps.skipped;
  state.epoch = static_cast<double>(steps.done) / static_cast<double>(accounting.steps_per_epoch);
  state.seed = options.seed;
  state.world_size = comm.world_size();
  state.accounting = accounting;
  state.parameters = std::move(*parameters);
  state.first_moment = std::move(moments->first);
  state.second_moment = std::move(moments->second);
  return state;
}

}  // namespace llmlaunch::trainer
