// The two files of a checkpoint that tell about the job, and those of before there were two.
#include "trainer/trainer_state.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/catch.hpp"

namespace trainer_trainer_state_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

TrainingState example() {
  TrainingState state;
  state.model = &mlp();
  state.step = 12;
  state.skipped = 2;
  state.loss_scale = {.factor = 0.1F, .good_steps = 1999, .skipped = 3};
  state.epoch = 0.75;
  state.seed = 7;
  state.world_size = 4;
  state.accounting = {.images = 1000, .images_per_step = 64, .steps_per_epoch = 16, .data_seed = 3, .drop_last = true};
  state.plan = {.max_steps = 48,
                .num_train_epochs = 3,
                .logging_steps = 5,
                .eval_steps = 10,
                .save_steps = 500,
                .train_batch_size = 16};
  state.course.history = {{.step = 5, .epoch = 0.3125, .values = {{"loss", 0.1}, {"learning_rate", 1e-3}}},
                          {.step = 10, .epoch = 0.625, .values = {{"eval_loss", std::nan("")}}}};
  state.course.best =
      BestModel{.metric = 0.5, .step = 10, .checkpoint = "runs/\xff/checkpoint-10", .by = {"eval_accuracy", true}};
  state.optimizer = OptimizerNumbers{1e-3, 1e-2, 0.9, 0.999, 1e-8};
  state.flags = {{"--seed", "7"}, {"--warmup_steps", "0.1"}};
  return state;
}

}  // namespace

TEST_CASE("trainer_state.json has the keys of Hugging Face's TrainerState, and no other") {
  const auto document = nlohmann::json::parse(trainer_state_text(example()));
  std::set<std::string> keys;
  for (const auto& [key, value] : document.items()) keys.insert(key);
  CHECK(keys == std::set<std::string>{"best_global_step",
                                      "best_metric",
                                      "best_model_checkpoint",
                                      "epoch",
                                      "eval_steps",
                                      "global_step",
                                      "is_hyper_param_search",
                                      "is_local_process_zero",
                                      "is_world_process_zero",
                                      "log_history",
                                      "logging_steps",
                                      "max_steps",
                                      "num_input_tokens_seen",
                                      "num_train_epochs",
                                      "save_steps",
                                      "stateful_callbacks",
                                      "total_flos",
                                      "train_batch_size",
                                      "trial_name",
                                      "trial_params"});
  CHECK(document["log_history"][0] ==
        nlohmann::json({{"epoch", 0.3125}, {"loss", 0.1}, {"learning_rate", 1e-3}, {"step", 5}}));
  CHECK(document["train_batch_size"] == 16);
  CHECK(document["max_steps"] == 48);
  CHECK(document["eval_steps"] == 10);
}

TEST_CASE("a loss's scale that can be none is damage, and none is that of the start") {
  auto document = nlohmann::json::parse(own_state_text(example()));
  TrainingState state;
  for (const auto& [key, value] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"factor", 0.0}, {"factor", 1e300}, {"factor", "1"}, {"good_steps", 2000}, {"skipped_steps", -1}}) {
    nlohmann::json damaged = document;
    damaged["loss_scale"][key] = value;
    CAPTURE(key, value.dump());
    const auto taken = take_own_state(damaged.dump(), "own", state);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().what == "lacks a value, or has one of another type");
  }
  nlohmann::json more = document;
  more["loss_scale"]["skipped_steps"] = 11;
  state.step = 12;
  const auto taken = take_own_state(more.dump(), "own", state);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().what == "counts 2 + 11 skipped steps of 12");
  document.erase("loss_scale");
  TrainingState without;
  without.step = 12;
  REQUIRE(take_own_state(document.dump(), "own", without));
  CHECK(without.loss_scale == LossScale{});
}

TEST_CASE("what is written comes back") {
  const TrainingState before = example();
  TrainingState after;
  REQUIRE(take_trainer_state(trainer_state_text(before), "state", after));
  REQUIRE(take_own_state(own_state_text(before), "own", after));
  CHECK(after.model == &mlp());
  CHECK(after.step == 12);
  CHECK(after.skipped == 2);
  CHECK(after.loss_scale == before.loss_scale);
  CHECK(after.epoch == 0.75);
  CHECK(after.seed == 7);
  CHECK(after.world_size == 4);
  CHECK(after.accounting == before.accounting);
  CHECK(after.flags == before.flags);
  REQUIRE(after.optimizer);
  CHECK(after.optimizer->learning_rate == 1e-3);
  CHECK(after.optimizer->epsilon == 1e-8);
  REQUIRE(after.course.history.size() == 2);
  CHECK(after.course.history[0].step == 5);
  CHECK(value_in(after.course.history[0], "loss") == 0.1);
  CHECK(std::isnan(*value_in(after.course.history[1], "eval_loss")));
  REQUIRE(after.course.best);
  CHECK(after.course.best->step == 10);
  CHECK(after.course.best->metric == 0.5);
  TrainingState no_best = before;
  no_best.course.best.reset();
  TrainingState none;
  REQUIRE(take_trainer_state(trainer_state_text(no_best), "state", none));
  CHECK_FALSE(none.course.best);
}

TEST_CASE("a state that is written again after a resume is the same text") {
  const std::string told = trainer_state_text(example());
  const std::string own = own_state_text(example());
  TrainingState read = example();
  read.course.history.clear();
  read.flags.clear();
  REQUIRE(take_trainer_state(told, "x", read));
  REQUIRE(take_own_state(own, "x", read));
  CHECK(trainer_state_text(read) == told);
  CHECK(own_state_text(read) == own);
}

TEST_CASE("a state of before there were two files is read") {
  const std::string old =
      R"({"version": 1, "global_step": 12, "skipped_steps": 2, "epoch": 0.75, "seed": 7, "world_size": 4,
    "train_samples": 1000, "train_batch_size": 64, "steps_per_epoch": 16, "data_seed": 3, "dataloader_drop_last": true})";
  CHECK(is_old_trainer_state(old));
  CHECK_FALSE(is_old_trainer_state(trainer_state_text(example())));
  TrainingState state;
  REQUIRE(take_old_state(old, "state", state));
  CHECK(state.step == 12);
  CHECK(state.accounting == example().accounting);
  CHECK(state.model == &basic_net());
  CHECK_FALSE(state.optimizer);
  CHECK(state.course.history.empty());
}

TEST_CASE("what lacks, or is of another type or version, is named") {
  TrainingState state;
  const auto check = [](const Result<void>& taken, const std::string& what) {
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == Errc::invalid_config);
    CHECK(taken.error().what == what);
    CHECK(taken.error().where == "file");
  };
  check(take_trainer_state("[]", "file", state), "is no JSON mapping");
  check(take_trainer_state("{\"global_step\": 1}", "file", state), "lacks a value, or has one of another type");
  auto document = nlohmann::json::parse(trainer_state_text(example()));
  document["log_history"][0]["loss"] = "much";
  check(take_trainer_state(document.dump(), "file", state), "lacks a value, or has one of another type");
  document = nlohmann::json::parse(own_state_text(example()));
  document["version"] = 3;
  check(take_own_state(document.dump(), "file", state), "is of version 3; this program reads 2");
  document["version"] = 2;
  document["model"] = "resnet";
  check(take_own_state(document.dump(), "file", state), "is of model 'resnet'; this program knows basicnet, mlp");
  document["model"] = "mlp";
  document["optimizer"].erase("adam_beta1");
  check(take_own_state(document.dump(), "file", state), "lacks a value, or has one of another type");
}

}  // namespace trainer_trainer_state_test
