// Options from the environment: their names, their place between the file and the command line, and what is refused.
#include "trainer/variable_settings.hpp"

#include "tests/support/catch.hpp"

namespace trainer_variable_settings_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

Result<TrainOptions> options(const VariableSettings& variables, const std::vector<std::string>& arguments = {},
                             const std::string& file = {}) {
  std::vector<std::string> words = arguments;
  if (!file.empty() && !variables.contains("config")) words.insert(words.begin(), "file.yaml");
  const auto parsed = parse_options(
      words, [&](const std::string&) { return Result<std::string>(file); }, "", variables);
  if (!parsed) return parsed.error();
  return parsed->options;
}

std::string refused(const VariableSettings& variables, const std::vector<std::string>& arguments = {},
                    const std::string& file = {}) {
  const auto parsed = options(variables, arguments, file);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::invalid_config);
  return to_string(parsed.error());
}

}  // namespace

TEST_CASE("variables of the environment have the options' names in capitals, and an empty one is none") {
  const char* const environment[] = {"LLMLAUNCH_TRAIN_LEARNING_RATE=3e-4",
                                     "LLMLAUNCH_TRAIN_SEED=",
                                     "LLMLAUNCH_TRAIN_OUTPUT_DIR=a=b",
                                     "LLMLAUNCH_TRAINING=1",
                                     "PATH=/bin",
                                     nullptr};
  CHECK(variable_settings(environment) == VariableSettings{{"learning_rate", "3e-4"}, {"output_dir", "a=b"}});
  CHECK(variable_of("learning_rate") == "LLMLAUNCH_TRAIN_LEARNING_RATE");
}

TEST_CASE("the command line wins over variables, and these over the file, which may be named by one") {
  const std::string file = "learning_rate: 0.1\nseed: 1\nmax_steps: 10\n";
  const auto parsed = options({{"config", "x.yaml"}, {"learning_rate", "0.2"}, {"seed", "2"}}, {"--seed", "3"}, file);
  REQUIRE(parsed);
  CHECK(parsed->max_steps == 10);
  CHECK(parsed->learning_rate == Approx(0.2));
  CHECK(parsed->seed == 3);
}

TEST_CASE("of two words for one thing that of the higher place wins") {
  struct Case {
    VariableSettings variables;
    std::vector<std::string> flags;
    std::string file;
    Precision precision;
    DeviceChoice device;
    Progress progress;
  };
  const std::vector<Case> cases = {
      {{{"fp16", "true"}}, {}, "bf16: true\n", Precision::fp16, DeviceChoice::automatic, Progress::automatic},
      {{{"bf16", "true"}}, {}, "fp16: true\n", Precision::bf16, DeviceChoice::automatic, Progress::automatic},
      {{{"fp16", "false"}}, {}, "bf16: true\n", Precision::bf16, DeviceChoice::automatic, Progress::automatic},
      {{{"bf16", "true"}}, {"--fp16"}, "", Precision::fp16, DeviceChoice::automatic, Progress::automatic},
      {{{"device", "cuda"}}, {}, "use_cpu: true\n", Precision::fp32, DeviceChoice::cuda, Progress::automatic},
      {{{"use_cpu", "true"}}, {}, "device: cuda\n", Precision::fp32, DeviceChoice::cpu, Progress::automatic},
      {{{"device", "cuda"}}, {"--use_cpu"}, "", Precision::fp32, DeviceChoice::cpu, Progress::automatic},
      {{{"progress", "always"}},
       {},
       "disable_tqdm: true\n",
       Precision::fp32,
       DeviceChoice::automatic,
       Progress::always},
      {{{"disable_tqdm", "true"}}, {}, "progress: always\n", Precision::fp32, DeviceChoice::automatic, Progress::never},
      {{}, {"--disable_tqdm"}, "progress: always\n", Precision::fp32, DeviceChoice::automatic, Progress::never},
      {{},
       {"--disable_tqdm", "false"},
       "progress: always\n",
       Precision::fp32,
       DeviceChoice::automatic,
       Progress::always},
  };
  for (const Case& one : cases) {
    CAPTURE(one.variables, one.flags, one.file);
    const auto parsed = options(one.variables, one.flags, one.file);
    REQUIRE(parsed);
    CHECK(parsed->precision == one.precision);
    CHECK(parsed->device == one.device);
    CHECK(parsed->progress == one.progress);
  }
  CHECK_THAT(refused({{"fp16", "true"}, {"bf16", "true"}}),
             Catch::StartsWith("environment variable LLMLAUNCH_TRAIN_FP16: fp16 and bf16 do not go together"));
}

TEST_CASE("a variable holds what its flag takes, a list by commas or blanks") {
  for (const char* const list : {"json,tensorboard", "json tensorboard", "json, tensorboard"}) {
    const auto parsed = options({{"report_to", list}, {"output_dir", "run"}, {"bf16", "true"}, {"max_grad_norm", "1"}});
    REQUIRE(parsed);
    CHECK((parsed->report_json && parsed->report_tensorboard));
    CHECK(parsed->max_grad_norm == 1);
  }
}

TEST_CASE("a variable that cannot be meant is named with what to write") {
  CHECK(refused({{"learning_rat", "1"}}) ==
        "environment variable LLMLAUNCH_TRAIN_LEARNING_RAT: is no option of the trainer\n   hint: did "
        "you mean LLMLAUNCH_TRAIN_LEARNING_RATE?");
  CHECK_THAT(refused({{"max_steps", "ten"}}),
             Catch::StartsWith("environment variable LLMLAUNCH_TRAIN_MAX_STEPS: max_steps: 'ten' "));
  // What goes together with no other word of it.
  CHECK_THAT(refused({{"report_to", "none,json"}}),
             Catch::StartsWith("environment variable LLMLAUNCH_TRAIN_REPORT_TO: report_to: none and other words "));
}

}  // namespace trainer_variable_settings_test
