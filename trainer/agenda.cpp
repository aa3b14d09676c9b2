// When what is due. Asked by the loops after each step, and for the numbers that trainer_state.json keeps.
#include "trainer/agenda.hpp"

#include <fmt/format.h>

namespace llmlaunch::trainer {
namespace {

/// transformers.TrainerState.eval_steps, where nothing sets it.
constexpr std::uint64_t kEvalStepsOfAnyState = 500;

}  // namespace

bool Agenda::is_time_to_log(std::uint64_t step) const {
  if (step == 1 && options_.logging_first_step) return true;
  switch (options_.logging_strategy) {
    case IntervalStrategy::no: return false;
    case IntervalStrategy::steps: return step % logging_steps() == 0 || is_last(step);
    case IntervalStrategy::epoch: return ends_epoch(step);
  }
  return false;
}

bool Agenda::is_time_to_save(std::uint64_t step) const {
  switch (options_.save_strategy) {
    case SaveStrategy::no:
    case SaveStrategy::best: return false;
    case SaveStrategy::steps: return (save_steps() > 0 && step % save_steps() == 0) || is_last(step);
    case SaveStrategy::epoch: return ends_epoch(step);
  }
  return false;
}

std::optional<std::string> Agenda::due_test(std::uint64_t step) const {
  if (is_last(step)) return std::string();
  if (options_.eval_strategy == IntervalStrategy::epoch && ends_epoch(step)) {
    return fmt::format("epoch {}/{}: ", step / length_.steps_per_epoch, length_.epochs);
  }
  if (is_step_of_test(step)) return fmt::format("step {}/{}: ", step, length_.steps);
  return std::nullopt;
}

bool Agenda::is_anything_due(std::uint64_t step) const {
  return is_time_to_log(step) || is_time_to_save(step) || due_test(step).has_value();
}

std::uint64_t Agenda::eval_steps() const {
  if (options_.eval_steps > 0) return counted_steps(options_.eval_steps, length_.steps);
  return options_.eval_strategy == IntervalStrategy::steps ? logging_steps() : kEvalStepsOfAnyState;
}

bool Agenda::is_step_of_test(std::uint64_t step) const {
  return options_.eval_strategy == IntervalStrategy::steps && step % eval_steps() == 0;
}

}  // namespace llmlaunch::trainer
