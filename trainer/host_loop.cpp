// A step as the host takes it: batches from the loader, their gradients added up and averaged while the last is still
// on its way back, AdamW, the loss to all ranks where somebody wants it.
#include "trainer/host_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "trainer/image_source.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {
namespace {

/// Of a step of many batches, on each rank: about a second on a core, and few ranks' words beside so much work.
constexpr std::uint64_t kImagesBetweenLooks = 1024;

Result<void> fill(const ImageSource& from, std::span<const std::uint32_t> positions, FilledBatch& into) {
  into.images.resize(positions.size() * kImageValues);
  into.labels.resize(positions.size());
  return fill_batch(from, positions, into.images, into.labels);
}

}  // namespace

void HostLoop::load(std::uint64_t epoch, std::uint64_t first) {
  const TrainingLength& length = job_.length();
  // No more than an epoch's, so that the product of a very long job does not wrap.
  const std::uint64_t wanted =
      std::min(length.steps - job_.step, length.steps_per_epoch) * job_.options.gradient_accumulation_steps;
  const auto order = std::make_shared<const std::vector<std::uint32_t>>(job_.sampler.epoch(epoch));
  loader_.begin(first, std::min<std::uint64_t>(first + wanted, length.batches_per_epoch),
                [order, images = job_.data.train, size = std::size_t{job_.options.per_device_train_batch_size}](
                    std::uint64_t index, FilledBatch& into) -> Result<void> {
                  const std::size_t begin = index * size;
                  return fill(*images, std::span(*order).subspan(begin, std::min(size, order->size() - begin)), into);
                });
}

Result<void> HostLoop::step(std::uint64_t epoch, std::uint64_t first, std::uint64_t last) {
  ++job_.step;
  const auto loss = gradient_of({.epoch = epoch, .first = first, .last = last});
  if (!loss) return loss.error();
  if (job_.stopped) {
    --job_.step;  // it was not taken
    return ok;
  }
  if (job_.is_end(*loss)) return job_.diverged(job_.step, *loss);
  if (auto averaged = job_.reducer.finish_step(); !averaged) return averaged;
  const double learning_rate = job_.learning_rate(job_.step);
  const auto norm = change_weights(learning_rate);
  if (!norm) return norm.error();
  return log(*loss, {.gradient_norm = *norm, .learning_rate = learning_rate});
}

/// The mean of the batches' mean losses on this rank. Their gradients are added up here, and averaged over the ranks
/// while the last batch's backward pass runs.
Result<double> HostLoop::gradient_of(const Batches& batches) {
  const auto parts = static_cast<double>(batches.last - batches.first);
  const double factor = job_.scales_loss ? job_.loss_scale.factor : 1;
  double loss = 0;
  const std::uint64_t between_looks = std::max<std::uint64_t>(
      1, kImagesBetweenLooks / std::max<std::uint64_t>(1, job_.options.per_device_train_batch_size));
  for (std::uint64_t b = batches.first; b < batches.last; ++b) {
    if (b > batches.first && (b - batches.first) % between_looks == 0 && job_.agenda.saves()) {
      if (auto looked = look_for_stop(); !looked || job_.stopped) return looked ? Result<double>(loss) : looked.error();
    }
    const auto filled = loader_.next();
    if (!filled) return filled.error();
    Batch batch = {.images = (*filled)->images, .labels = (*filled)->labels};
    const std::size_t first = b * job_.options.per_device_train_batch_size;
    batch.samples = {.first = job_.sample_at(batches.epoch, first), .stride = job_.world.world_size};
    const GradientUse use{.scale = static_cast<float>(factor / parts), .accumulate = b > batches.first};
    const bool last = b + 1 == batches.last;
    const auto result = job_.backend.forward_backward(
        batch, use, [&](std::size_t parameter) { return last ? job_.reducer.ready(parameter) : Result<void>(ok); });
    if (!result) return result.error();
    loss += result->loss_sum / static_cast<double>(result->count) / parts;
    job_.story.add_images(batch.labels.size() * job_.world.world_size);
    mark_batch();
  }
  return loss;
}

/// In the middle of a step, which then is left.
Result<void> HostLoop::look_for_stop() {
  const std::array<double, 1> told = {is_stop_noted() ? 1.0 : 0.0};
  const auto sum = sum_over_ranks(job_.comm, told);
  if (!sum) return sum.error();
  job_.stopped = sum->front() > 0;
  return ok;
}

/// The gradient's norm, where it is known.
Result<std::optional<double>> HostLoop::change_weights(double learning_rate) {
  const bool may_skip = job_.scales_loss || job_.options.on_nan == OnNan::skip;
  const bool clips = job_.options.max_grad_norm > 0;
  const auto norm = measure_gradient(may_skip || clips);
  if (!norm) return norm;
  const bool skipped = may_skip && !std::isfinite(norm->value());
  if (job_.scales_loss) note_step(job_.loss_scale, !skipped);
  if (skipped) {
    leave_out();
    return norm;
  }
  if (clips) {
    if (auto clipped = job_.backend.clip_gradient(norm->value(), job_.options.max_grad_norm); !clipped) {
      return clipped.error();
    }
  }
  auto changed = job_.backend.optimizer_step(job_.optimizer_step(job_.step), learning_rate);
  if (!changed) return changed.error();
  return norm;
}

/// The norm, where it is `wanted` or to be shown, of the gradient of the loss as it was before it was scaled.
Result<std::optional<double>> HostLoop::measure_gradient(bool wanted) {
  const bool shown = job_.agenda.is_time_to_log(job_.step) && job_.story.keeps_records();
  if (!wanted && !shown) return std::optional<double>();
  const auto norm =
      job_.scales_loss ? job_.backend.unscale_gradient(unscaling(job_.loss_scale)) : job_.backend.gradient_norm();
  if (!norm) return norm.error();
  return std::optional(*norm);
}

/// An overflow is no fault of the model's: the scale was tried, and is too large.
void HostLoop::leave_out() {
  if (job_.scales_loss) {
    job_.story.say("step {}: the gradient overflowed; the step is skipped, and losses are scaled by {} from now on",
                   job_.step, job_.loss_scale.factor);
    return;
  }
  ++job_.skipped;
  if (job_.world.rank != 0) return;
  job_.story.warn(fmt::format("step {}: the gradient is not finite; the step is skipped", job_.step));
}

/// The mean over the ranks of their means: with equal batches that of one process with all of their images.
Result<void> HostLoop::log(double loss, const StepFacts& facts) {
  const bool logged = job_.agenda.is_time_to_log(job_.step);
  job_.unlogged.add(loss);
  if (!logged && !job_.losses.wanted() && !job_.agenda.saves()) {
    job_.story.step_done(job_.step, {}, facts);
    return ok;
  }
  const std::array<double, 3> said = {loss, job_.unlogged.sum(), is_stop_noted() ? 1.0 : 0.0};
  const auto sum = sum_over_ranks(job_.comm, said);
  if (!sum) return sum.error();
  job_.stopped = job_.agenda.saves() && sum->back() > 0;
  job_.story.step_done(job_.step,
                       logged ? std::optional(job_.unlogged.take_mean((*sum)[1], job_.world.world_size)) : std::nullopt,
                       facts);
  job_.losses.write(job_.step, sum->front() / job_.world.world_size);
  return ok;
}

}  // namespace llmlaunch::trainer
