// Learning rates against those of Hugging Face's schedulers, and the arithmetic of steps and epochs.
#include "trainer/schedule.hpp"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/catch.hpp"

namespace trainer_schedule_test {

using namespace llmlaunch::trainer;

TEST_CASE("learning rates are those that PyTorch's LambdaLR gives Hugging Face's schedules") {
  std::ifstream file(LLMLAUNCH_FIXTURES "/torch_numbers.json");
  REQUIRE(file);
  const auto schedules = nlohmann::json::parse(file).at("schedules");
  REQUIRE(schedules.size() == 20);
  const std::map<std::string, SchedulerType> types = {{"constant", SchedulerType::constant},
                                                      {"constant_with_warmup", SchedulerType::constant_with_warmup},
                                                      {"linear", SchedulerType::linear},
                                                      {"cosine", SchedulerType::cosine}};
  for (const auto& one : schedules) {
    const Schedule schedule{.type = types.at(one.at("type")),
                            .learning_rate = one.at("learning_rate"),
                            .warmup_steps = one.at("warmup_steps"),
                            .total_steps = one.at("total_steps")};
    std::uint64_t step = 0;
    for (const double expected : one.at("rates").get<std::vector<double>>()) {
      CAPTURE(one.at("type"), schedule.warmup_steps, step);
      CHECK(learning_rate_of(schedule, ++step) == expected);
    }
    CHECK(step == schedule.total_steps);
  }
}

TEST_CASE("steps and epochs follow from images, batches and accumulation") {
  struct Case {
    LengthWishes wishes;
    std::uint64_t batches, steps_per_epoch, steps, epochs;
  };
  const Case cases[] = {
      {{.images_per_rank = 60'000, .batch_size = 64, .epochs = 1}, 938, 938, 938, 1},
      {{.images_per_rank = 60'000, .batch_size = 64, .drop_last = true, .epochs = 2}, 937, 937, 1874, 2},
      {{.images_per_rank = 100, .batch_size = 10, .accumulation = 4, .epochs = 2}, 10, 3, 6, 2},
      {{.images_per_rank = 100, .batch_size = 10, .accumulation = 40}, 10, 1, 1, 1},
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 5, .max_steps = 7}, 10, 10, 7, 1},
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 0.25}, 10, 10, 3, 1},
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 1.1}, 10, 10, 11, 2},
      {{.images_per_rank = 30, .batch_size = 10, .epochs = 1.1}, 3, 3, 4, 2},  // 3.3000000000000003 steps
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 1e-9}, 10, 10, 1, 1},
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 0.5, .max_steps = 12}, 10, 10, 12, 2},
      {{.images_per_rank = 100, .batch_size = 10, .epochs = 1, .max_steps = 21}, 10, 10, 21, 3},
      {{.images_per_rank = 9, .batch_size = 10, .drop_last = true, .max_steps = 5}, 0, 0, 0, 0},
      {{.images_per_rank = 0, .batch_size = 10}, 0, 0, 0, 0},
  };
  for (const Case& one : cases) {
    const TrainingLength length = training_length(one.wishes);
    CAPTURE(one.wishes.images_per_rank, one.wishes.batch_size, one.wishes.accumulation, one.wishes.max_steps);
    CHECK(length.batches_per_epoch == one.batches);
    CHECK(length.steps_per_epoch == one.steps_per_epoch);
    CHECK(length.steps == one.steps);
    CHECK(length.epochs == one.epochs);
  }
}

TEST_CASE("the part of an epoch that is done is counted in batches, of which its last step may have fewer") {
  const TrainingLength length = training_length({.images_per_rank = 124, .batch_size = 10, .accumulation = 4});
  REQUIRE(length.batches_per_epoch == 13);
  REQUIRE(length.steps_per_epoch == 4);
  CHECK(epochs_after(length, 0) == 0);
  CHECK(epochs_after(length, 1) == 4.0 / 13);
  CHECK(epochs_after(length, 3) == 12.0 / 13);
  CHECK(epochs_after(length, 4) == 1);
  CHECK(epochs_after(length, 6) == 1 + 8.0 / 13);
  CHECK(epochs_after(training_length({.images_per_rank = 30, .batch_size = 10, .accumulation = 40}), 3) == 3);
}

}  // namespace trainer_schedule_test
