/// \file
/// How long a training job is and which learning rate each of its steps has. Pure numbers, the same on every rank.
#pragma once

#include <cstdint>

namespace llmlaunch::trainer {

/// The shape of the learning rate, with Hugging Face's names. All but `constant` begin with the warm-up.
enum class SchedulerType { constant, constant_with_warmup, linear, cosine };

struct Schedule {
  SchedulerType type = SchedulerType::constant_with_warmup;
  double learning_rate = 1e-3;     ///< the highest
  std::uint64_t warmup_steps = 0;  ///< steps over which it rises from 0 in a straight line
  std::uint64_t total_steps = 0;
};

/// The learning rate of step `step`, from 1. Step k has that of Hugging Face's get_scheduler after k - 1 calls of
/// step(): linear and cosine go from the highest at the end of the warm-up to 0 after the last step.
double learning_rate_of(const Schedule& schedule, std::uint64_t step);

/// What was asked for.
struct LengthWishes {
  std::uint64_t images_per_rank = 0;  ///< in an epoch
  std::uint64_t batch_size = 1;
  std::uint64_t accumulation = 1;  ///< batches that make one step
  bool drop_last = false;          ///< no batch that is not full
  double epochs = 1;               ///< may end within one
  std::uint64_t max_steps = 0;     ///< above 0: so many steps, whatever `epochs` says
};

/// What follows from it. A step is one change of the weights.
struct TrainingLength {
  std::uint64_t batches_per_epoch = 0;
  std::uint64_t accumulation = 1;  ///< batches that make one step, but for an epoch's last
  std::uint64_t steps_per_epoch = 0;
  std::uint64_t steps = 0;
  std::uint64_t epochs = 0;  ///< begun, if not ended
};

/// A number of steps, or below 1 a share of all of them, which is at least 1 step where there are any.
std::uint64_t counted_steps(double wish, std::uint64_t all);

/// An epoch's last step takes the batches that are left, be they fewer. Part of an epoch is
/// so many steps, rounded up, as Hugging Face counts. All 0 where there is no batch at all.
TrainingLength training_length(const LengthWishes& wishes);

/// The passes that are done after a step, with the part of the last in batches, as Hugging Face's Trainer counts: an
/// epoch's last step may have fewer of them than the others.
double epochs_after(const TrainingLength& length, std::uint64_t step);

}  // namespace llmlaunch::trainer
