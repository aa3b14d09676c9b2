// What is due after which step of a job.
#include "trainer/agenda.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

namespace trainer_agenda_test {

using namespace llmlaunch::trainer;

/// Two epochs of five steps.
constexpr TrainingLength kLength = {.batches_per_epoch = 5, .steps_per_epoch = 5, .steps = 10, .epochs = 2};

std::vector<std::uint64_t> steps_where(const std::function<bool(std::uint64_t)>& due) {
  std::vector<std::uint64_t> found;
  for (std::uint64_t step = 1; step <= kLength.steps; ++step) {
    if (due(step)) found.push_back(step);
  }
  return found;
}

using Steps = std::vector<std::uint64_t>;

TEST_CASE("lines are due every logging_steps, after the last step and, if asked for, after the first") {
  TrainOptions options;
  options.logging_steps = 4;
  const Agenda agenda(options, kLength);
  const auto is_due = [&](std::uint64_t step) { return agenda.is_time_to_log(step); };
  CHECK(steps_where(is_due) == Steps{4, 8, 10});
  options.logging_first_step = true;
  CHECK(steps_where(is_due) == Steps{1, 4, 8, 10});
}

TEST_CASE("lines are due never, or at the ends of epochs, where that is the strategy") {
  TrainOptions options;
  const Agenda agenda(options, kLength);
  const auto is_due = [&](std::uint64_t step) { return agenda.is_time_to_log(step); };
  options.logging_strategy = IntervalStrategy::epoch;
  CHECK(steps_where(is_due) == Steps{5, 10});
  options.logging_strategy = IntervalStrategy::no;
  CHECK(steps_where(is_due).empty());
  options.logging_first_step = true;
  CHECK(steps_where(is_due) == Steps{1});
}

TEST_CASE("below 1 numbers of steps are shares of all, rounded up") {
  TrainOptions options;
  options.logging_steps = 0.35;
  options.save_steps = 0.1;
  options.eval_steps = 0.51;
  const Agenda agenda(options, kLength);
  CHECK(agenda.logging_steps() == 4);
  CHECK(agenda.save_steps() == 1);
  CHECK(agenda.eval_steps() == 6);
  options.eval_steps = 0;
  CHECK(agenda.eval_steps() == 500);  // that of any TrainerState, for no test looks at it
  options.eval_strategy = IntervalStrategy::steps;
  CHECK(agenda.eval_steps() == 4);
  options.logging_steps = 1e-9;
  CHECK(agenda.logging_steps() == 1);
  CHECK(steps_where([&](std::uint64_t step) { return agenda.is_time_to_log(step); }).size() == 10);
}

TEST_CASE("checkpoints are due by steps or by epochs, and always after the last step") {
  TrainOptions options;
  options.save_steps = 3;
  const Agenda agenda(options, kLength);
  const auto is_due = [&](std::uint64_t step) { return agenda.is_time_to_save(step); };
  options.save_strategy = SaveStrategy::no;
  CHECK(steps_where(is_due).empty());
  CHECK_FALSE(agenda.saves());
  options.save_strategy = SaveStrategy::steps;
  CHECK(steps_where(is_due) == Steps{3, 6, 9, 10});
  options.save_steps = 0;
  CHECK(agenda.save_steps() == 0);  // as Hugging Face's TrainerState has it
  CHECK(steps_where(is_due) == Steps{10});
  options.save_steps = 3;
  options.save_strategy = SaveStrategy::epoch;
  CHECK(steps_where(is_due) == Steps{5, 10});
  CHECK(agenda.saves());
  CHECK_FALSE(agenda.saves_best());
  options.save_strategy = SaveStrategy::best;  // the tests decide
  CHECK(steps_where(is_due).empty());
  CHECK(agenda.saves());
  CHECK(agenda.saves_best());
}

TEST_CASE("a test is due as its strategy says, and after the last step it always is") {
  TrainOptions options;
  const Agenda agenda(options, kLength);
  const auto is_due = [&](std::uint64_t step) { return agenda.due_test(step).has_value(); };
  options.eval_strategy = IntervalStrategy::no;
  CHECK(steps_where(is_due) == Steps{10});
  options.eval_strategy = IntervalStrategy::epoch;
  CHECK(steps_where(is_due) == Steps{5, 10});
  CHECK(agenda.due_test(5) == "epoch 1/2: ");
  options.eval_strategy = IntervalStrategy::steps;
  options.eval_steps = 0;
  options.logging_steps = 4;
  CHECK(steps_where(is_due) == Steps{4, 8, 10});
  options.eval_steps = 6;
  CHECK(steps_where(is_due) == Steps{6, 10});
  CHECK(agenda.due_test(6) == "step 6/10: ");
  CHECK(agenda.due_test(10)->empty());
}

TEST_CASE("an epoch that max_steps cuts short ends with the job") {
  const TrainOptions options;
  const Agenda agenda(options, {.batches_per_epoch = 5, .steps_per_epoch = 5, .steps = 8, .epochs = 2});
  CHECK(agenda.ends_epoch(5));
  CHECK_FALSE(agenda.ends_epoch(7));
  CHECK(agenda.ends_epoch(8));
}

TEST_CASE("something is due wherever one of them is") {
  TrainOptions options;
  options.logging_steps = 4;
  options.save_strategy = SaveStrategy::steps;
  options.save_steps = 3;
  options.eval_strategy = IntervalStrategy::epoch;
  const Agenda agenda(options, kLength);
  CHECK(steps_where([&](std::uint64_t step) { return agenda.is_anything_due(step); }) == Steps{3, 4, 5, 6, 8, 9, 10});
}

}  // namespace trainer_agenda_test
