// The length of a job and its learning rates. Called by the training loop.
#include "trainer/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llmlaunch::trainer {

double learning_rate_of(const Schedule& schedule, std::uint64_t step) {
  const double highest = schedule.learning_rate;
  if (schedule.type == SchedulerType::constant) return highest;
  const auto done = static_cast<double>(step - 1);
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  if (done < warmup) return highest * (done / std::max(1.0, warmup));
  const auto total = static_cast<double>(schedule.total_steps);
  const double falling = std::max(1.0, total - warmup);
  switch (schedule.type) {
    case SchedulerType::constant:
    case SchedulerType::constant_with_warmup: return highest;
    case SchedulerType::linear: return highest * std::max(0.0, (total - done) / falling);
    case SchedulerType::cosine:
      return highest * std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * ((done - warmup) / falling))));
  }
  return highest;
}

std::uint64_t counted_steps(double wish, std::uint64_t all) {
  return static_cast<std::uint64_t>(wish < 1 ? std::ceil(wish * static_cast<double>(all)) : wish);
}

TrainingLength training_length(const LengthWishes& wishes) {
  TrainingLength length;
  length.accumulation = wishes.accumulation;
  const auto in_pieces = [](std::uint64_t count, std::uint64_t piece) { return (count + piece - 1) / piece; };
  length.batches_per_epoch = wishes.drop_last ? wishes.images_per_rank / wishes.batch_size
                                              : in_pieces(wishes.images_per_rank, wishes.batch_size);
  length.steps_per_epoch = in_pieces(length.batches_per_epoch, wishes.accumulation);
  if (length.steps_per_epoch == 0) return length;
  if (wishes.max_steps > 0) {
    length.steps = wishes.max_steps;
    length.epochs = in_pieces(length.steps, length.steps_per_epoch);
    return length;
  }
  length.steps = static_cast<std::uint64_t>(std::ceil(wishes.epochs * static_cast<double>(length.steps_per_epoch)));
  length.epochs = static_cast<std::uint64_t>(std::ceil(wishes.epochs));
  return length;
}

double epochs_after(const TrainingLength& length, std::uint64_t step) {
  const std::uint64_t epoch = step / length.steps_per_epoch;
  const std::uint64_t batches = step % length.steps_per_epoch * length.accumulation;
  return static_cast<double>(epoch) + static_cast<double>(batches) / static_cast<double>(length.batches_per_epoch);
}

}  // namespace llmlaunch::trainer
