// What follows from flags, world and data before the first step: the same on every rank, once they agree.
#include "trainer/training_job.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "trainer/divergence.hpp"
#include "trainer/job_facts.hpp"

namespace llmlaunch::trainer {
namespace {

DistributedSampler sampler_of(const TrainOptions& options, const World& world, const DataSource& data) {
  return {data.train->count(), world.world_size, world.rank, options.data_seed.value_or(options.seed),
          options.dataloader_drop_last ? Tail::drop : Tail::repeat};
}

std::vector<Range> places_of(const Model& model) {
  std::vector<Range> result;
  for (const Parameter& parameter : model.parameters) result.push_back({parameter.first, parameter.count});
  return result;
}

TrainingLength length_of(const TrainOptions& options, const DistributedSampler& sampler) {
  return training_length({.images_per_rank = sampler.size(),
                          .batch_size = options.per_device_train_batch_size,
                          .accumulation = options.gradient_accumulation_steps,
                          .drop_last = options.dataloader_drop_last,
                          .epochs = options.num_train_epochs,
                          .max_steps = static_cast<std::uint64_t>(std::max<std::int64_t>(0, options.max_steps))});
}

Schedule schedule_of(const TrainOptions& options, std::uint64_t steps) {
  return {.type = options.lr_scheduler_type,
          .learning_rate = options.learning_rate,
          .warmup_steps = counted_steps(options.warmup_steps, steps),
          .total_steps = steps};
}

RunFacts facts_of(const TrainOptions& options, const World& world, const DataSource& data, const Agenda& agenda) {
  const TrainingLength& length = agenda.length();
  return {.accounting = {.images = data.train->count(),
                         .images_per_step = std::uint64_t{world.world_size} * options.per_device_train_batch_size *
                                            options.gradient_accumulation_steps,
                         .steps_per_epoch = length.steps_per_epoch,
                         .data_seed = options.data_seed.value_or(options.seed),
                         .drop_last = options.dataloader_drop_last},
          .length = length,
          .plan = {.max_steps = length.steps,
                   .num_train_epochs = length.epochs,
                   .logging_steps = agenda.logging_steps(),
                   .eval_steps = agenda.eval_steps(),
                   .save_steps = agenda.save_steps(),
                   .train_batch_size = options.per_device_train_batch_size},
          .optimizer = optimizer_numbers(options),
          .flags = {}};
}

}  // namespace

TrainingJob::TrainingJob(const TrainOptions& job_options, const World& job_world, Engine& engine, DataSource& job_data,
                         LossLog& loss_log)
    : options(job_options),
      world(job_world),
      backend(*engine.backend),
      comm(*engine.comm),
      data(job_data),
      losses(loss_log),
      sampler(sampler_of(options, world, data)),
      reducer(comm, backend.gradient(), places_of(backend.model()), bucket_caps(options.ddp_bucket_cap_mb)),
      agenda(options, length_of(options, sampler)),
      scales_loss(options.precision == Precision::fp16),
      schedule(schedule_of(options, agenda.length().steps)),
      run(facts_of(options, world, data, agenda)),
      story(options, world, agenda.length()) {
  losses.tell_failure(
      [this](const Error& error) { story.warn(fmt::format("{}; training goes on", to_string(error))); });
}

TrainingJob::~TrainingJob() {
  losses.tell_failure({});
}

bool TrainingJob::is_end(double loss) const {
  return options.on_nan == OnNan::stop && !std::isfinite(loss);
}

Error TrainingJob::diverged(std::uint64_t in_step, double loss) const {
  return divergence(fmt::format("step {}: the loss is {}", in_step, word_for_loss(loss)),
                    world.world_size == 1 ? std::string() : fmt::format("rank {} on {}", world.rank, world.host),
                    as_diverged());
}

}  // namespace llmlaunch::trainer
