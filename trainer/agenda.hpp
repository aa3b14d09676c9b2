/// \file
/// What is due after which step: a line, a test, a checkpoint. Pure, the same on every rank.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trainer/options.hpp"
#include "trainer/schedule.hpp"

namespace llmlaunch::trainer {

class Agenda {
 public:
  /// The options outlive it.
  Agenda(const TrainOptions& options, const TrainingLength& length) : options_(options), length_(length) {}

  const TrainingLength& length() const { return length_; }

  bool is_last(std::uint64_t step) const { return step == length_.steps; }
  bool ends_epoch(std::uint64_t step) const { return step % length_.steps_per_epoch == 0 || is_last(step); }
  bool is_time_to_log(std::uint64_t step) const;
  /// Whatever the test after it gives; where `saves_best`, that alone decides.
  bool is_time_to_save(std::uint64_t step) const;
  /// How the line of the test after this step begins; nothing: none is due.
  std::optional<std::string> due_test(std::uint64_t step) const;
  /// Whether the loop has anything to do after this step that needs its numbers.
  bool is_anything_due(std::uint64_t step) const;

  /// Whether tests decide which steps are saved.
  bool saves_best() const { return options_.save_strategy == SaveStrategy::best; }
  /// Whether this job makes checkpoints.
  bool saves() const { return options_.save_strategy != SaveStrategy::no; }
  /// How often, in steps: a share of all steps is counted, as in Hugging Face's TrainerState.
  std::uint64_t logging_steps() const { return counted_steps(options_.logging_steps, length_.steps); }
  /// 0: only the last step is saved.
  std::uint64_t save_steps() const { return counted_steps(options_.save_steps, length_.steps); }
  /// As Hugging Face's Trainer: --eval_steps, or where it is not given --logging_steps; without --eval_strategy steps
  /// what a TrainerState has from the start.
  std::uint64_t eval_steps() const;

 private:
  bool is_step_of_test(std::uint64_t step) const;

  const TrainOptions& options_;
  TrainingLength length_;
};

}  // namespace llmlaunch::trainer
