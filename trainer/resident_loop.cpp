#include "trainer/resident_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/host_steps.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {
namespace {

/// Steps of a run that are never resident: the first puts gradients into buckets, the second sends these, and then all
/// libraries know their sizes.
constexpr std::uint64_t kHostSteps = 2;

}  // namespace

void ResidentLoop::host_step_taken() {
  if (host_steps_ < kHostSteps) ++host_steps_;
}

std::uint64_t ResidentLoop::steps_from(std::uint64_t first) const {
  if (!job_.options.cuda_graph || refused_ || host_steps_ < kHostSteps) return 0;
  const std::uint64_t full = job_.sampler.size() / job_.options.per_device_train_batch_size;
  return first < full ? std::min(full - first, job_.length().steps - job_.step) : 0;
}

Result<void> ResidentLoop::train(std::uint64_t epoch, std::uint64_t first, std::uint64_t count,
                                 const std::function<Result<void>()>& after) {
  if (!steps_) {
    if (auto prepared = prepare(); !prepared || refused_) return prepared;
  }
  if (auto begun = begin(epoch, first, count); !begun) return begun;
  std::uint64_t unseen = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    ++job_.step;
    if (auto launched = steps_->launch(); !launched) return launched;
    mark_batch();
    ++unseen;
    if (!job_.agenda.is_anything_due(job_.step) && unseen < kStepsInFlight && i + 1 < count) continue;
    if (auto seen = look(std::exchange(unseen, 0)); !seen) return seen;
    if (job_.stopped) return ok;
    if (auto done = after(); !done) return done;
  }
  return ok;
}

ResidentPlan ResidentLoop::plan() {
  return {.images = &job_.data.train,
          .batch_size = job_.options.per_device_train_batch_size,
          .most_positions = job_.sampler.size(),
          .most_steps = job_.length().steps_per_epoch,
          .sample_stride = job_.world.world_size,
          .halts = job_.options.on_nan == OnNan::stop,
          .ready = [this](std::size_t parameter) { return job_.reducer.ready(parameter); },
          .averaged = [this] { return job_.reducer.finish_queued_step(); },
          .drained = [this] { return job_.comm.drain(); }};
}

Result<void> ResidentLoop::prepare() {
  if (on_host_) {
    steps_ = make_host_steps(job_.backend, plan());
    return ok;
  }
  auto made = job_.backend.make_resident(plan());
  if (!made && made.error().code != Errc::unsupported) return made.error();
  if (!made) {
    job_.reducer.abandon_step();
    job_.story.warn(fmt::format("--cuda_graph: {}", to_string(made.error())));
  }
  return agree(std::move(made));
}

/// All ranks the same way: a device that cannot is told of, and the job goes on as without the flag.
Result<void> ResidentLoop::agree(Result<std::unique_ptr<ResidentSteps>> made) {
  const std::array<double, 1> refused = {made ? 0.0 : 1.0};
  const auto sum = sum_over_ranks(job_.comm, refused);
  if (!sum) return sum.error();
  refused_ = sum->front() > 0;
  if (refused_) {
    job_.story.say("--cuda_graph: {:.0f} of {} ranks cannot; every step is started by the host", sum->front(),
                   job_.world.world_size);
  } else {
    steps_ = std::move(*made);
  }
  return ok;
}

Result<void> ResidentLoop::begin(std::uint64_t epoch, std::uint64_t first, std::uint64_t count) {
  std::vector<ResidentStep> steps;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t position = (first + i) * job_.options.per_device_train_batch_size;
    steps.push_back({.first_position = position,
                     .first_sample = job_.sample_at(epoch, position),
                     .optimizer_step = job_.optimizer_step(job_.step + 1 + i),
                     .learning_rate = job_.learning_rate(job_.step + 1 + i)});
  }
  return steps_->begin(job_.sampler.epoch(epoch), steps);
}

/// The last `count` steps, up to the job's: their losses from all ranks, and whether a rank was told to stop.
Result<void> ResidentLoop::look(std::uint64_t count) {
  auto said = steps_->collect();
  if (!said) return said.error();
  if (said->size() != count) {
    return make_error(Errc::internal, fmt::format("{} losses of {} steps", said->size(), count));
  }
  mark_batch();
  if (auto noted = note_norm(); !noted) return noted;
  for (const double loss : *said) job_.unlogged.add(loss);
  said->push_back(job_.unlogged.sum());
  said->push_back(is_stop_noted() ? 1.0 : 0.0);
  const auto all = gather_over_ranks(job_.comm, *said);
  if (!all) return all.error();
  for (std::uint64_t i = 0; i < count; ++i) {
    if (auto told = tell(job_.step - count + 1 + i, *all, i); !told) return told;
  }
  const bool is_stop = std::any_of(all->begin(), all->end(), [](const auto& rank) { return rank.back() > 0; });
  job_.stopped = job_.agenda.saves() && is_stop;
  return ok;
}

/// Of the last step, where anybody wants to know it: AdamW has left its gradient as it was.
Result<void> ResidentLoop::note_norm() {
  job_.norm.reset();
  if (!job_.agenda.is_time_to_log(job_.step) || !job_.story.keeps_records()) return ok;
  const auto norm = job_.backend.gradient_norm();
  if (!norm) return norm.error();
  job_.norm = *norm;
  return ok;
}

/// Entry `index` of each rank's losses is that of `step`.
Result<void> ResidentLoop::tell(std::uint64_t step, const std::vector<std::vector<double>>& losses, std::size_t index) {
  double sum = 0;
  double unlogged = 0;
  for (std::uint32_t rank = 0; rank < job_.world.world_size; ++rank) {
    const double loss = losses[rank][index];
    if (job_.is_end(loss)) return job_.diverged(step, loss, rank);
    sum += loss;
    unlogged += *(losses[rank].end() - 2);  // behind it is the rank's word of a stop
  }
  job_.story.add_images(std::uint64_t{job_.options.per_device_train_batch_size} * job_.world.world_size);
  const bool is_last = step == job_.step;  // the others are none that is logged
  std::optional<double> line_loss;
  if (is_last && job_.agenda.is_time_to_log(step)) {
    line_loss = job_.unlogged.take_mean(unlogged, job_.world.world_size);
  }
  job_.story.step_done(
      step, line_loss,
      {.gradient_norm = is_last ? job_.norm : std::nullopt, .learning_rate = job_.learning_rate(step)});
  job_.losses.write(step, sum / job_.world.world_size);
  return ok;
}

}  // namespace llmlaunch::trainer
