// Steps that the device takes by itself: the host starts as many as nothing is due between, and looks at their losses
// together. What a device cannot, the host loop does.
#include "trainer/resident_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/agreement.hpp"
#include "trainer/host_steps.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {
namespace {

/// Steps of a run that are never resident: the first puts gradients into buckets, the second sends these, and then all
/// libraries know their sizes.
constexpr std::uint64_t kHostSteps = 2;

/// What a rank says before the losses of its steps: whether it was told to stop, and its sum of what is not logged yet.
constexpr std::size_t kHead = 2;

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
    if (auto done = after(); !done || job_.stopped) return done;
  }
  return ok;
}

ResidentPlan ResidentLoop::plan() {
  return {.images = job_.data.train->whole(),
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
  auto losses = steps_->collect();
  if (!losses) return losses.error();
  if (losses->size() != count) {
    return make_error(Errc::internal, fmt::format("{} losses of {} steps", losses->size(), count));
  }
  mark_batch();
  const auto norm = norm_to_show();
  if (!norm) return norm.error();
  for (const double loss : *losses) job_.unlogged.add(loss);
  const std::array<double, kHead> head = {is_stop_noted() ? 1.0 : 0.0, job_.unlogged.sum()};
  losses->insert(losses->begin(), head.begin(), head.end());
  const auto said = gather_over_ranks(job_.comm, *losses);
  if (!said) return said.error();
  double unlogged = 0;
  bool is_stop = false;
  for (const std::vector<double>& rank : *said) {
    is_stop = is_stop || rank[0] > 0;
    unlogged += rank[1];
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t step = job_.step - count + 1 + i;
    const auto mean = mean_loss(step, *said, kHead + i);
    if (!mean) return mean.error();
    job_.story.add_images(std::uint64_t{job_.options.per_device_train_batch_size} * job_.world.world_size);
    StepFacts facts{.gradient_norm = std::nullopt, .learning_rate = job_.learning_rate(step)};
    std::optional<double> line_loss;
    if (step == job_.step) {  // the others are none that is logged
      facts.gradient_norm = *norm;
      if (job_.agenda.is_time_to_log(step)) line_loss = job_.unlogged.take_mean(unlogged, job_.world.world_size);
    }
    job_.story.step_done(step, line_loss, facts);
    job_.losses.write(step, *mean);
  }
  job_.stopped = job_.agenda.saves() && is_stop;
  return ok;
}

/// Of the last step's gradient, where anybody wants to know it: AdamW has left it as it was.
Result<std::optional<double>> ResidentLoop::norm_to_show() {
  if (!job_.agenda.is_time_to_log(job_.step) || !job_.story.keeps_records()) return std::optional<double>();
  const auto norm = job_.backend.gradient_norm();
  if (!norm) return norm.error();
  return std::optional(*norm);
}

/// All ranks see all losses: the first whose loss ends the job says so.
Result<double> ResidentLoop::mean_loss(std::uint64_t step, const std::vector<std::vector<double>>& said,
                                       std::size_t index) const {
  double sum = 0;
  for (std::uint32_t rank = 0; rank < job_.world.world_size; ++rank) {
    const double loss = said[rank][index];
    if (job_.is_end(loss)) return told_once(job_.comm, job_.diverged(step, loss), rank);
    sum += loss;
  }
  return sum / job_.world.world_size;
}

}  // namespace llmlaunch::trainer
