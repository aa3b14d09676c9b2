/// \file
/// What all parts of a training job share: what was asked for, the device, the other ranks, and how far it has come.
#pragma once

#include <cstdint>
#include <optional>

#include "rendezvous/base/result.hpp"
#include "trainer/agenda.hpp"
#include "trainer/backend.hpp"
#include "trainer/comm.hpp"
#include "trainer/data_source.hpp"
#include "trainer/ddp.hpp"
#include "trainer/device.hpp"
#include "trainer/divergence.hpp"
#include "trainer/grad_scaler.hpp"
#include "trainer/loss_log.hpp"
#include "trainer/options.hpp"
#include "trainer/resume.hpp"
#include "trainer/sampler.hpp"
#include "trainer/schedule.hpp"
#include "trainer/story.hpp"
#include "trainer/unlogged_losses.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

struct TrainingJob {
  /// All of these outlive it.
  TrainingJob(const TrainOptions& job_options, const World& job_world, Engine& engine, DataSource& job_data,
              LossLog& loss_log);
  ~TrainingJob();
  TrainingJob(const TrainingJob&) = delete;
  TrainingJob& operator=(const TrainingJob&) = delete;

  const TrainOptions& options;
  const World& world;
  Backend& backend;
  Comm& comm;
  DataSource& data;
  LossLog& losses;
  const DistributedSampler sampler;
  GradientReducer reducer;
  const Agenda agenda;
  const bool scales_loss;  ///< as half precision needs
  Schedule schedule;
  RunFacts run;
  Story story;

  std::uint64_t step = 0;              ///< of the whole run, from 1
  std::uint64_t steps_before = 0;      ///< of them: those of the runs that this one goes on from
  std::uint64_t skipped = 0;           ///< steps that changed no weight, for their gradient was no number
  LossScale loss_scale;                ///< with the steps that changed none, for their gradient overflowed
  UnloggedLosses unlogged;             ///< of this rank
  bool stopped = false;                ///< by a signal that all ranks know of
  std::optional<LogRecord> last_test;  ///< of this run

  const TrainingLength& length() const { return agenda.length(); }
  /// The number of the image at `position` of this rank's order of an epoch.
  std::uint64_t sample_at(std::uint64_t epoch, std::uint64_t position) const {
    return (epoch * sampler.size() + position) * world.world_size + world.rank;
  }
  /// As Hugging Face's Trainer: a step whose gradient overflowed has not moved it on.
  double learning_rate(std::uint64_t of_step) const { return learning_rate_of(schedule, of_step - loss_scale.skipped); }
  /// How many steps of AdamW those up to `of_step` are, this one included.
  std::uint64_t optimizer_step(std::uint64_t of_step) const { return of_step - skipped - loss_scale.skipped; }

  bool is_resumed() const { return steps_before > 0; }
  /// For the error of numbers that are none.
  DivergedJob as_diverged() const { return {.resumed = is_resumed(), .skips = options.on_nan == OnNan::skip}; }

  /// Whether such a loss ends the job.
  bool is_end(double loss) const;
  /// On this rank, before anybody's weights know of it: the average would carry it to all.
  Error diverged(std::uint64_t in_step, double loss) const;
};

}  // namespace llmlaunch::trainer
