// The command line of llmlaunch-train: names, limits, and the words for what cannot be understood.
#include "trainer/options.hpp"

#include <fmt/format.h>

#include <map>

#include "tests/support/catch.hpp"
#include "trainer/known_arguments.hpp"

namespace trainer_options_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

/// Files by name, for --config.
using Files = std::map<std::string, std::string>;

Result<ParsedOptions> parse(const std::vector<std::string>& arguments, const Files& files = {},
                            const std::string& mixed_precision = {}) {
  const auto read = [&](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return make_error(Errc::invalid_config, "no such file", path);
    return found->second;
  };
  return parse_options(arguments, read, mixed_precision);
}

TrainOptions options(const std::vector<std::string>& arguments) {
  auto parsed = parse(arguments);
  REQUIRE(parsed);
  CHECK(parsed->answer.empty());
  return parsed->options;
}

}  // namespace

TEST_CASE("without flags it is the example") {
  const TrainOptions o = options({});
  CHECK(o.per_device_train_batch_size == 64);
  CHECK(o.num_train_epochs == 1);
  CHECK(o.max_steps == -1);
  CHECK(o.learning_rate == 1e-3);
  CHECK(o.weight_decay == 1e-2);
  CHECK(o.adam_beta1 == 0.9);
  CHECK(o.adam_beta2 == 0.999);
  CHECK(o.adam_epsilon == 1e-8);
  CHECK(o.dropout);
  CHECK(o.device == DeviceChoice::automatic);
  CHECK(o.data_dir.empty());
}

TEST_CASE("HOME takes the place of ~ in every path, and where nobody knows it ~ is an error") {
  TrainOptions o = options({"--output_dir=~/runs", "--data_dir", "~", "--predict", "/x/~", "--loss_file", "~you/x"});
  TrainOptions lost = o;
  REQUIRE(expand_home(o, "/home/me"));
  CHECK(o.output_dir == "/home/me/runs");
  CHECK(o.data_dir == "/home/me");
  CHECK(o.predict == "/x/~");
  CHECK(o.loss_file == "~you/x");
  const auto refused = expand_home(lost, "");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::invalid_config);
  CHECK(refused.error().where == "~");
  TrainOptions full = options({"--output_dir", "/runs"});
  CHECK(expand_home(full, ""));
}

TEST_CASE("flags are the same with hyphens and underscores, with a space or an equals sign") {
  for (const std::vector<std::string>& typed : std::vector<std::vector<std::string>>{
           {"--per_device_train_batch_size", "8"},
           {"--per-device-train-batch-size", "8"},
           {"--per_device_train-batch_size=8"},
       }) {
    CHECK(options(typed).per_device_train_batch_size == 8);
  }
}

TEST_CASE("digits mean decimal") {
  CHECK(options({"--max_steps", "010"}).max_steps == 10);
  CHECK(options({"--logging_steps", "010"}).logging_steps == 10);
  CHECK(options({"--train_samples", "08"}).train_samples == 8);
  CHECK(options({"--seed", "0010"}).seed == 10);
  CHECK(options({"--seed", "00"}).seed == 0);
  CHECK(options({"--num_train_epochs", "03.0"}).num_train_epochs == 3);
  CHECK(options({"--threads", "010"}).threads == 10);
  CHECK(options({"--learning_rate", "0.5"}).learning_rate == 0.5);
  CHECK(options({"--learning_rate", "0e0"}).learning_rate == 0);
  CHECK(options({"--learning_rate", "01e-3"}).learning_rate == 1e-3);
  for (const std::string flag :
       {"--max_steps", "--logging_steps", "--train_samples", "--seed", "--threads", "--learning_rate"}) {
    CAPTURE(flag);
    for (const std::string word : {"0x10", "-0x10", "0b1", "0o7"}) {
      CAPTURE(word);
      const auto parsed = parse({flag + "=" + word});
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::usage);
      CHECK_THAT(parsed.error().what, Catch::StartsWith(flag + ": '" + word + "' is not a "));
      CHECK(parsed.error().hint == "write it in decimal digits");
    }
  }
}

TEST_CASE("hyphens in values stay") {
  CHECK(options({"--data-dir", "my-data-dir"}).data_dir == "my-data-dir");
  CHECK(options({"--data-dir", "x", "--data-split", "MNIST"}).data_split == "mnist");
  CHECK(options({"--loss-file=a-b/c-d"}).loss_file == "a-b/c-d");
}

TEST_CASE("every flag reaches its option") {
  const TrainOptions o = options({"--train_samples",
                                  "100",
                                  "--eval_samples",
                                  "50",
                                  "--per_device_eval_batch_size",
                                  "7",
                                  "--num_train_epochs",
                                  "3",
                                  "--max_steps",
                                  "20",
                                  "--learning_rate",
                                  "0.5",
                                  "--weight_decay",
                                  "0",
                                  "--adam_beta1",
                                  "0.8",
                                  "--adam_beta2",
                                  "0.99",
                                  "--adam_epsilon",
                                  "1e-6",
                                  "--seed",
                                  "42",
                                  "--dropout",
                                  "off",
                                  "--logging_steps",
                                  "5",
                                  "--device",
                                  "cpu",
                                  "--ddp_bucket_cap_mb",
                                  "0.5",
                                  "--ddp_timeout",
                                  "60",
                                  "--threads",
                                  "2"});
  CHECK(o.train_samples == 100);
  CHECK(o.eval_samples == 50);
  CHECK(o.per_device_eval_batch_size == 7);
  CHECK(o.num_train_epochs == 3);
  CHECK(o.max_steps == 20);
  CHECK(o.learning_rate == 0.5);
  CHECK(o.weight_decay == 0);
  CHECK(o.adam_beta1 == 0.8);
  CHECK(o.adam_beta2 == 0.99);
  CHECK(o.adam_epsilon == 1e-6);
  CHECK(o.seed == 42);
  CHECK_FALSE(o.dropout);
  CHECK(o.logging_steps == 5);
  CHECK(o.device == DeviceChoice::cpu);
  CHECK(o.ddp_bucket_cap_mb == 0.5);
  CHECK(o.ddp_timeout == 60);
  CHECK(o.threads == 2);
  CHECK(options({"--use_cpu"}).device == DeviceChoice::cpu);
  const TrainOptions more = options({"--gradient_accumulation_steps", "4", "--lr_scheduler_type", "cosine",
                                     "--warmup_steps", "0.1", "--max_grad_norm", "1.5", "--data_seed", "9",
                                     "--eval_strategy", "steps", "--eval_steps", "30", "--export_dataset", "folder"});
  CHECK(more.gradient_accumulation_steps == 4);
  CHECK(more.lr_scheduler_type == SchedulerType::cosine);
  CHECK(more.warmup_steps == 0.1);
  CHECK(more.max_grad_norm == 1.5);
  CHECK(more.data_seed == 9);
  CHECK(more.eval_strategy == IntervalStrategy::steps);
  CHECK(more.eval_steps == 30);
  CHECK(more.export_dataset == "folder");
  CHECK(options({}).model == "basicnet");
  CHECK(options({"--model", "mlp"}).model == "mlp");
  CHECK(options({"--predict", "file"}).predict == "file");
  CHECK(options({}).dataloader_num_workers == 0);
  CHECK(options({"--dataloader_num_workers", "4"}).dataloader_num_workers == 4);
  CHECK(options({}).save_strategy == SaveStrategy::no);
  CHECK(options({"--output_dir", "x"}).save_strategy == SaveStrategy::steps);  // as Hugging Face's
  CHECK(options({"--output_dir", "x", "--save_strategy", "no"}).save_strategy == SaveStrategy::no);
  CHECK(options({}).on_nan == OnNan::stop);
  CHECK(options({"--on_nan", "skip"}).on_nan == OnNan::skip);
  CHECK(options({"--on_nan", "continue"}).on_nan == OnNan::carry_on);
  CHECK(options({"--lr_scheduler_type", "linear"}).lr_scheduler_type == SchedulerType::linear);
  CHECK(options({"--eval_strategy", "epoch"}).eval_strategy == IntervalStrategy::epoch);
  CHECK(options({"--use-cpu", "--device", "auto"}).device == DeviceChoice::cpu);
  CHECK(options({"--device", "cuda"}).device == DeviceChoice::cuda);
}

TEST_CASE("reports are words with commas between, or one after the other as Hugging Face's") {
  for (const std::vector<std::string>& typed : std::vector<std::vector<std::string>>{
           {"--report_to", "json,tensorboard"}, {"--report_to", "json", "tensorboard"}, {"--report_to=all"}}) {
    std::vector<std::string> arguments = {"--logging_dir", "x"};
    arguments.insert(arguments.end(), typed.begin(), typed.end());
    const TrainOptions o = options(arguments);
    CHECK(o.report_json);
    CHECK(o.report_tensorboard);
  }
  CHECK_FALSE(options({}).report_json);
  CHECK_FALSE(options({"--report_to", "none"}).report_tensorboard);
}

TEST_CASE("the best model's flags") {
  const TrainOptions o = options({"--output_dir", "x", "--load_best_model_at_end", "--eval_strategy", "steps",
                                  "--eval_steps", "50", "--save_steps", "100"});
  CHECK(o.load_best_model_at_end);
  CHECK(o.metric_for_best_model == Metric::loss);
  CHECK_FALSE(o.greater_is_better);
  // What is saved is tested, whenever that is.
  for (const char* tests : {"epoch", "steps"}) {
    const TrainOptions best =
        options({"--output_dir", "x", "--save_strategy", "best", "--eval_strategy", tests, "--load_best_model_at_end"});
    CHECK(best.save_strategy == SaveStrategy::best);
    CHECK(best.metric_for_best_model == Metric::loss);
    CHECK(best.notes.empty());
  }
  const TrainOptions more =
      options({"--metric_for_best_model", "eval_accuracy", "--greater_is_better", "False", "--progress", "always"});
  CHECK(more.metric_for_best_model == Metric::accuracy);
  CHECK(more.greater_is_better == false);
  CHECK(more.progress == Progress::always);
}

TEST_CASE("flags that have no effect without others are told of, once each") {
  const auto notes_of = [](const std::vector<std::string>& arguments) { return options(arguments).notes; };
  using Notes = std::vector<std::string>;
  CHECK(notes_of({"--save_total_limit", "2"}) ==
        Notes{"--save_total_limit 2: no checkpoints are written; that needs --output_dir"});
  CHECK(notes_of({"--save_total_limit", "2", "--output_dir", "x", "--save_strategy", "no"}) ==
        Notes{"--save_total_limit 2: no checkpoints are written; that needs another --save_strategy than no"});
  CHECK(notes_of({"--save_total_limit", "2", "--output_dir", "x"}).empty());
  CHECK(notes_of({"--greater_is_better", "true"}) ==
        Notes{"--greater_is_better: nothing is compared; that needs --metric_for_best_model"});
  CHECK(notes_of({"--metric_for_best_model", "accuracy", "--greater_is_better", "true"}) ==
        Notes{"--metric_for_best_model: no checkpoints are written, of which one could be the best; that needs "
              "--output_dir"});
  const std::vector<std::string> saving = {"--output_dir", "x", "--eval_strategy", "steps"};
  auto comparing = saving;
  comparing.insert(comparing.end(), {"--metric_for_best_model", "loss", "--greater_is_better", "true"});
  CHECK(notes_of(comparing).empty());
  auto loading = saving;
  loading.insert(loading.end(), {"--load_best_model_at_end", "--greater_is_better", "true"});
  CHECK(notes_of(loading).empty());
}

TEST_CASE("shares of steps that are multiples of each other are so in decimal digits") {
  const TrainOptions o = options({"--output_dir", "x", "--load_best_model_at_end", "--eval_strategy", "steps",
                                  "--eval_steps", "0.1", "--save_steps", "0.3", "--num_train_epochs", "2.5"});
  CHECK(o.save_steps == 0.3);
  // 0 saves after the last step alone, which is tested in any case.
  CHECK(options({"--output_dir", "x", "--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "30",
                 "--save_steps", "0"})
            .load_best_model_at_end);
  CHECK(o.num_train_epochs == 2.5);
}

TEST_CASE("constant has no warm-up, as Hugging Face's, and that is said; the schedule that is not named has one") {
  CHECK(options({}).lr_scheduler_type == SchedulerType::constant_with_warmup);
  CHECK(options({"--warmup_steps", "3"}).notes.empty());
  const TrainOptions with = options({"--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "3"});
  CHECK(with.lr_scheduler_type == SchedulerType::constant_with_warmup);
  CHECK(with.notes.empty());
  const TrainOptions without = options({"--lr_scheduler_type", "constant", "--warmup_steps", "0.5"});
  CHECK(without.lr_scheduler_type == SchedulerType::constant);
  CHECK(without.notes == std::vector<std::string>{
                             "--warmup_steps 0.5: --lr_scheduler_type constant has no warm-up, as in Hugging Face's "
                             "Trainer; constant_with_warmup has one"});
  CHECK(options({"--lr_scheduler_type", "constant", "--warmup_steps", "0"}).notes.empty());
}

TEST_CASE("switches are true alone, and true or false when that follows, as Hugging Face's") {
  CHECK_FALSE(options({}).logging_first_step);
  CHECK(options({}).precision == Precision::fp32);
  CHECK(options({"--bf16"}).precision == Precision::bf16);
  CHECK(options({"--bf16", "False"}).precision == Precision::fp32);
  CHECK(options({"--bf16", "--tf32", "true"}).tf32);
  CHECK(options({"--tf32"}).precision == Precision::tf32);
  CHECK(options({"--fp16", "--tf32"}).precision == Precision::fp16);
  CHECK(options({"--fp16", "--bf16", "false"}).precision == Precision::fp16);
  CHECK_FALSE(options({"--fp16", "false", "--tf32", "false"}).tf32);
  CHECK_FALSE(options({}).dataloader_drop_last);
  CHECK(options({"--logging_first_step"}).logging_first_step);
  CHECK(options({"--dataloader_drop_last", "True", "--seed", "1"}).dataloader_drop_last);
  CHECK_FALSE(options({"--dataloader_drop_last", "false"}).dataloader_drop_last);
  CHECK_FALSE(options({"--dataloader_drop_last=False"}).dataloader_drop_last);
  const TrainOptions both = options({"--dataloader_drop_last", "--logging_first_step"});
  CHECK(both.dataloader_drop_last);
  CHECK(both.logging_first_step);
}

TEST_CASE("accelerate's mixed_precision counts where no precision is typed, and is told of where it cannot be had") {
  struct Row {
    const char* asked;
    std::vector<std::string> typed;
    Precision precision;
  };
  const std::vector<Row> rows = {
      {"", {}, Precision::fp32},
      {"no", {"--bf16"}, Precision::bf16},
      {"bf16", {}, Precision::bf16},
      {"bf16", {"--bf16", "false"}, Precision::fp32},
      {"bf16", {"--fp16"}, Precision::fp16},
      {"fp16", {}, Precision::fp16},
      {"fp16", {"--tf32"}, Precision::fp16},
      {"fp16", {"--fp16", "false", "--tf32"}, Precision::tf32},
      {"fp16", {"--bf16"}, Precision::bf16},
      {"fp8", {"--bf16"}, Precision::bf16},
  };
  for (const Row& row : rows) {
    CAPTURE(row.asked, row.typed);
    const auto parsed = parse(row.typed, {}, row.asked);
    REQUIRE(parsed);
    CHECK(parsed->options.precision == row.precision);
    CHECK(parsed->options.notes.empty());
  }
  for (const char* const asked : {"fp8", "FP16"}) {
    const auto other = parse({}, {}, asked);
    REQUIRE(other);
    CHECK(other->options.precision == Precision::fp32);
    CHECK(other->options.notes ==
          std::vector<std::string>{
              fmt::format("mixed_precision {} (ACCELERATE_MIXED_PRECISION) has no effect: it is none of no, "
                          "bf16 and fp16",
                          asked)});
  }
  const auto graph = parse({"--cuda_graph"}, {}, "fp16");
  REQUIRE_FALSE(graph);
  CHECK(graph.error().code == Errc::usage);
  CHECK(to_string(graph.error()) ==
        "--cuda_graph and mixed_precision fp16 (ACCELERATE_MIXED_PRECISION) do not go together\n   hint: leave one of "
        "them out, or add --fp16 false");
  CHECK(parse({"--cuda_graph", "--fp16", "false"}, {}, "fp16"));
}

TEST_CASE("what cannot be understood is named") {
  struct Row {
    std::vector<std::string> typed;
    std::string what;
    std::string hint;
  };
  const std::string help = "llmlaunch-train --help lists the flags";
  const std::string unset = "is it a variable that is not set?";
  const std::string word =
      "it may be a secret, and is not shown; flags begin with --, a file of settings is named by --config";
  const std::vector<Row> rows = {
      {{"--learning_rat", "1"}, "unknown flag '--learning_rat'", "did you mean --learning_rate?"},
      {{"--per-device-train-batch-sise=3"},
       "unknown flag '--per_device_train_batch_sise'",
       "did you mean --per_device_train_batch_size?"},
      {{"--fp16", "--bf16"}, "--fp16 and --bf16 do not go together", "leave one of them out"},
      {{"--cuda_graph", "--fp16"}, "--cuda_graph and --fp16 do not go together", "leave one of them out"},
      {{"surplus"}, "word 1 behind llmlaunch-train is neither a flag nor the value of one", word},
      {{"--train_samples", "0"}, "--train_samples: '0' is not a whole number from 1 to 1000000000", help},
      {{"--eval_samples", "0"}, "--eval_samples: '0' is not a whole number from 1 to 1000000000", help},
      {{"--max_steps", "0"},
       "--max_steps: '0' is not a whole number from 1 to 1000000000000, or -1",
       "-1 is no limit; Hugging Face's Trainer takes one step for 0, which is 1 here"},
      {{"--cuda_graph", "--gradient_accumulation_steps", "2"},
       "--cuda_graph and --gradient_accumulation_steps above 1 do not go together",
       "leave one of them out"},
      {{"--cuda_graph", "--max_grad_norm", "1"},
       "--cuda_graph and --max_grad_norm above 0 do not go together",
       "leave one of them out"},
      {{"--cuda_graph", "--on_nan", "skip"},
       "--cuda_graph and --on_nan skip do not go together",
       "leave one of them out"},
      {{"--use_cpu", "--device", "cuda"}, "--use_cpu and --device cuda contradict each other", ""},
      {{"--warmup_steps", "1.5"},
       "--warmup_steps: '1.5' is not a whole number from 0 to 1000000000000, or below 1 a share of all steps",
       help},
      {{"--eval_steps", "5"}, "--eval_steps needs --eval_strategy steps", ""},
      {{"--resume_from_checkpoint", "True"}, "--resume_from_checkpoint true needs --output_dir", ""},
      {{"--save_strategy", "epoch"}, "--save_strategy needs --output_dir", ""},
      {{"--save_strategy", "best", "--output_dir", "x"},
       "--save_strategy best needs --eval_strategy steps or epoch, and --metric_for_best_model",
       "that is loss or accuracy"},
      {{"--save_strategy", "best", "--output_dir", "x", "--metric_for_best_model", "loss"},
       "--save_strategy best needs --eval_strategy steps or epoch",
       ""},
      {{"--save_strategy", "best", "--output_dir", "x", "--eval_strategy", "epoch"},
       "--save_strategy best needs --metric_for_best_model",
       "it is loss or accuracy"},
      {{"--save_strategy", "best", "--output_dir", "x", "--eval_strategy", "epoch", "--save_steps", "3"},
       "--save_steps needs --output_dir and --save_strategy steps",
       ""},
      {{"--save_strategy", "bets"},
       "--save_strategy: 'bets' is not one of best, epoch, no, steps",
       "did you mean best?"},
      {{"--save_steps", "5"}, "--save_steps needs --output_dir and --save_strategy steps", ""},
      {{"--save_steps", "5", "--output_dir", "x", "--save_strategy", "epoch"},
       "--save_steps needs --output_dir and --save_strategy steps",
       ""},
      {{"--warmup_ratio", "0.1"}, "unknown flag '--warmup_ratio'", "--warmup_steps below 1 is that share of all steps"},
      {{"--output_dir", ""}, "--output_dir needs the name of a folder", unset},
      {{"--export_dataset", ""}, "--export_dataset needs the name of a folder", unset},
      {{"--learning_rate", "nan"}, "--learning_rate: 'nan' is not a number from 0", help},
      {{"--warmup_steps", "inf"},
       "--warmup_steps: 'inf' is not a whole number from 0 to 1000000000000, or below 1 a share of all steps",
       help},
      {{"--max_grad_norm", "-2"}, "--max_grad_norm: '-2' is not a number from 0", help},
      {{"--lr_scheduler_type", "2"},
       "--lr_scheduler_type: '2' is not one of constant, constant_with_warmup, cosine, linear",
       help},
      {{"--predict", ""}, "--predict needs the name of a file", unset},
      {{"--loss_file", ""}, "--loss_file needs the name of a file", unset},
      {{"--data_dir", ""}, "--data_dir needs the name of a folder", unset},
      {{"--resume_from_checkpoint", ""}, "--resume_from_checkpoint needs the folder of a checkpoint, or true", unset},
      {{"--output_dir=", "--use_cpu"},
       "--output_dir needs a value, and there is none behind its '='",
       "is it a variable that is not set?"},
      {{"--resume-from-checkpoint=", "x"},
       "--resume_from_checkpoint needs a value, and there is none behind its '='",
       "is it a variable that is not set?"},
      {{"--use_cpu=", "true"},
       "--use_cpu needs a value, and there is none behind its '='",
       "is it a variable that is not set?"},
      {{"--max_steps=", "3"},
       "--max_steps needs a value, and there is none behind its '='",
       "is it a variable that is not set?"},
      {{"--config=", "x.yaml"},
       "--config needs a value, and there is none behind its '='",
       "is it a variable that is not set?"},
      {{"--adam_beta1", "1"}, "--adam_beta1: '1' is not a number from 0 and below 1", help},
      {{"--adam_beta2", "-0.1"}, "--adam_beta2: '-0.1' is not a number from 0 and below 1", help},
      {{"--adam_beta2", "nan"}, "--adam_beta2: 'nan' is not a number from 0 and below 1", help},
      {{"--predict", "a/../x", "--loss_file", "x"},
       "--predict and --loss_file name the same file, a/../x",
       "give each its own"},
      {{"--model", "resnet"}, "--model: 'resnet' is not one of basicnet, mlp", help},
      {{"--data_split", "digits"},
       "--data_split needs --data_dir",
       "it is for EMNIST's files; drawn digits have no splits"},
      {{"--data_dir", "x", "--data_split", "letters"},
       "--data_split letters: it has 26 classes, and the networks here tell ten apart",
       "digits and mnist have ten"},
      {{"--data_dir", "x", "--data_split", "digit"},
       "--data_split: 'digit' is not one of balanced, byclass, bymerge, digits, letters, mnist",
       "did you mean digits?"},
      {{"--seed", "-3"}, "--seed: '-3' is not a whole number from 0 to 18446744073709551615", help},
      {{"--report_to", "json"}, "--report_to needs --output_dir or --logging_dir", ""},
      {{"--report_to", "none,json", "--logging_dir", "x"},
       "--report_to: none and other words contradict each other",
       ""},
      {{"--disable_tqdm", "--progress", "always"}, "--disable_tqdm and --progress always contradict each other", ""},
      {{"--load_best_model_at_end", "--output_dir", "x", "--eval_strategy", "epoch"},
       "--load_best_model_at_end needs one strategy to test and to save, and --eval_strategy is epoch and "
       "--save_strategy steps",
       "make both steps or both epoch, or --save_strategy best"},
      {{"--load_best_model_at_end", "--output_dir", "x", "--save_strategy", "no"},
       "--load_best_model_at_end: no checkpoint is tested and none is saved (--eval_strategy and --save_strategy are "
       "no), so that none can be the best",
       "make both steps or both epoch, or leave it out"},
      {{"--load_best_model_at_end", "--output_dir", "x", "--eval_strategy", "steps", "--eval_steps", "30"},
       "--load_best_model_at_end needs --save_steps to be a multiple of --eval_steps, and they are 500 and 30",
       ""},
      {{"--load_best_model_at_end", "--output_dir", "x", "--eval_strategy", "steps", "--eval_steps", "0.1"},
       "--load_best_model_at_end needs --save_steps to be a multiple of --eval_steps, and they are 500 and 0.1",
       "make both numbers of steps, or both shares"},
      {{"--load_best_model_at_end", "--output_dir", "x", "--eval_strategy", "steps", "--eval_steps", "0.2",
        "--save_steps", "0.3"},
       "--load_best_model_at_end needs --save_steps to be a multiple of --eval_steps, and they are 0.3 and 0.2",
       ""},
      {{"--num_train_epochs", "0"}, "--num_train_epochs: '0' is not a number above 0 and up to 1000000000", help},
      {{"--save_steps", "1.5"},
       "--save_steps: '1.5' is not a whole number from 0 to 1000000000, or below 1 a share of all steps",
       help},
      {{"--config", ""}, "--config needs the name of a file", unset},
      {{"--config", "--seed", "3"},
       "--config needs a value, the name of a file",
       "behind it stands --seed; a value that begins with '-' is written --config=--seed"},
      // What CLI11 says of a wrong number of values reaches nobody.
      {{"--seed", "1", "--seed=2"}, "--seed is given twice: 1 and 2", "leave one of them"},
      {{"--bf16", "--bf16", "false"}, "--bf16 is given twice: true and false", "leave one of them"},
      {{"--model", "mlp", "--model", "mlp", "--model", "mlp"},
       "--model is given several times: mlp, mlp and mlp",
       "leave one of them"},
      {{"--config", "a", "--config", "b"}, "--config is given twice: a and b", "leave one of them"},
      {{"--use_cpu", "--use_cpu", "true", "--seed", "1"},
       "--use_cpu is given twice: true and true",
       "leave one of them"},
      {{"--config"}, "--config needs a value, the name of a file", "nothing stands behind it"},
      {{"--use_cpu", "--seed"},
       "--seed needs a value, a whole number from 0 to 18446744073709551615",
       "nothing stands behind it"},
      {{"--model", "--use_cpu=true"},
       "--model needs a value, one of basicnet and mlp",
       "behind it stands --use_cpu; a value that begins with '-' is written --model=--use_cpu"},
      {{"--greater_is_better"},
       "--greater_is_better needs a value, true or false (also yes, no, on, off, 1, 0)",
       "nothing stands behind it"},
      {{"--seed", "1", "2"}, "word 3 behind llmlaunch-train is neither a flag nor the value of one", word},
      {{"--seed", "3", "hf_sesame=x"}, "word 3 behind llmlaunch-train is neither a flag nor the value of one", word},
      {{"--" + std::string(57, 'x') + "\u00fcx"}, "unknown flag '--" + std::string(57, 'x') + "\u2026'", help},
      {{"seed=3"}, "'seed' is neither a flag nor the value of one", "did you mean --seed?"},
      {{"-seed", "3"}, "unknown flag '-seed'", "did you mean --seed?"},
      {{"--learning_rate", "0,5"}, "--learning_rate: '0,5' is not a number from 0", "a decimal point is a point: 0.5"},
      {{"--lr_scheduler_type", "cosin"},
       "--lr_scheduler_type: 'cosin' is not one of constant, constant_with_warmup, cosine, linear",
       "did you mean cosine?"},
      {{"--tf32", "args.json"},
       "--tf32: 'args.json' is not true or false (also yes, no, on, off, 1, 0)",
       "a file of settings is named by --config args.json"},
      {{"--dataloader_num_workers", "257"},
       "--dataloader_num_workers: '257' is not a whole number from 0 to 256",
       help},
      // Hugging Face's, and not the trainer's.
      {{"--deepspeed", "x"},
       "--deepspeed is Hugging Face's, for models that are cut over ranks; this trainer does not have it",
       "leave it out: every rank keeps the whole model"},
      {{"--fp16-opt-level=O1"},
       "--fp16_opt_level is Hugging Face's, for the library that does half precision; this trainer does not have it",
       "leave it out; --fp16 and --bf16 are done by the trainer itself"},
      {{"--no_dataloader_pin_memory"},
       "--dataloader_pin_memory is Hugging Face's, for PyTorch's DataLoader; this trainer does not have it",
       "leave it out; --dataloader_num_workers has threads fill batches ahead"},
      {{"--skip_memory_metrics"},
       "--skip_memory_metrics is Hugging Face's, for reports of memory; this trainer does not have it",
       "leave it out: nothing is measured of memory"},
      {{"--fp16_full_eval"},
       "--fp16_full_eval is Hugging Face's, for evaluation in 16 bits; this trainer does not have it",
       "leave it out; what --bf16 or --fp16 says counts for evaluation, too"},
      {{"--push_to_hubb"},
       "unknown flag '--push_to_hubb'",
       "did you mean --push_to_hub? That is Hugging Face's, and this trainer does not have it"},
      {{"--evaluation_strategy", "steps"}, "unknown flag '--evaluation_strategy'", "it is --eval_strategy now"},
      {{"--no_cuda"}, "unknown flag '--no_cuda'", "it is --use_cpu now"},
      {{"--no-bf16"}, "unknown flag '--no_bf16'", "write --bf16 false"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.typed);
    const auto parsed = parse(row.typed);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::usage);
    CHECK(parsed.error().what == row.what);
    CHECK(parsed.error().hint == row.hint);
  }
}

TEST_CASE("a GPU is called cuda") {
  const auto parsed = parse({"--device", "gpu"});
  REQUIRE_FALSE(parsed);
  CHECK(to_string(parsed.error()) == "--device: 'gpu' is not one of auto, cpu, cuda\n   hint: did you mean cuda?");
}

TEST_CASE("a wrong value is named with its flag, on one line") {
  for (const auto& [typed, flag, value] : std::vector<std::tuple<std::vector<std::string>, std::string, std::string>>{
           {{"--learning_rate", "fast"}, "--learning_rate", "fast"},
           {{"--learning_rate", "-1"}, "--learning_rate", "-1"},
           {{"--per_device_train_batch_size", "0"}, "--per_device_train_batch_size", "0"},
           {{"--per_device_train_batch_size", "1.5"}, "--per_device_train_batch_size", "1.5"},
           {{"--device", "gpu"}, "--device", "gpu"},
           {{"--dropout", "maybe"}, "--dropout", "maybe"},
           {{"--adam_beta1", "2"}, "--adam_beta1", "2"},
           {{"--seed", "-3"}, "--seed", "-3"},
           {{"--lr_scheduler_type", "polynomial"}, "--lr_scheduler_type", "polynomial"},
           {{"--max_grad_norm", "-1"}, "--max_grad_norm", "-1"},
           {{"--logging_first_step", "maybe"}, "--logging_first_step", "maybe"},
           {{"--gradient_accumulation_steps", "0"}, "--gradient_accumulation_steps", "0"},
           {{"--dataloader_num_workers", "-1"}, "--dataloader_num_workers", "-1"},
           {{"--data_dir"}, "--data_dir", ""},
       }) {
    CAPTURE(typed);
    const auto parsed = parse(typed);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::usage);
    CHECK_THAT(parsed.error().what, Catch::Contains(flag) && Catch::Contains(value));
    CHECK(parsed.error().what.find('\n') == std::string::npos);
  }
}

TEST_CASE("every flag of Hugging Face's is answered by name, and the value of none is shown") {
  for (const KnownArgument& known : known_arguments()) {
    const std::string flag = "--" + std::string(known.name);
    for (const std::vector<std::string>& typed : {std::vector{flag, std::string("hf_sesame")}, {flag + "=hf_sesame"}}) {
      CAPTURE(typed);
      const auto parsed = parse(typed);
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::usage);
      CHECK_THAT(parsed.error().what, Catch::StartsWith(flag + " is Hugging Face's, for "));
      CHECK_FALSE(parsed.error().hint.empty());
      CHECK_THAT(to_string(parsed.error()), !Catch::Contains("sesame"));
    }
  }
  CHECK_THAT(to_string(parse({"--my_tokn=hf_sesame"}).error()), !Catch::Contains("sesame"));
}

TEST_CASE("true and false are written as accelerate, Hugging Face and YAML write them") {
  for (const char* yes : {"true", "True", "TRUE", "yes", "on", "On", "1", "t", "y"}) {
    CAPTURE(yes);
    CHECK(options({"--tf32", yes}).tf32);
    CHECK(options({std::string("--tf32=") + yes}).tf32);
  }
  for (const char* no : {"false", "False", "FALSE", "no", "off", "OFF", "0", "f", "n"}) {
    CAPTURE(no);
    CHECK_FALSE(options({"--tf32", no}).tf32);
    CHECK_FALSE(options({"--dropout", no}).dropout);
  }
  CHECK(options({"--resume_from_checkpoint", "yes", "--output_dir", "x"}).resume_from_checkpoint == "true");
  CHECK(options({"--resume_from_checkpoint", "OFF"}).resume_from_checkpoint.empty());
  CHECK(options({"--resume_from_checkpoint", "n"}).resume_from_checkpoint == "n");
}

TEST_CASE("words are taken in upper case, too") {
  const TrainOptions o = options({"--eval_strategy", "STEPS", "--save_strategy=Epoch", "--output_dir", "x"});
  CHECK(o.eval_strategy == IntervalStrategy::steps);
  CHECK(o.save_strategy == SaveStrategy::epoch);
}

TEST_CASE("a folder for reports that nobody asked for is told of") {
  CHECK(
      options({"--logging_dir", "x"}).notes ==
      std::vector<std::string>{"--logging_dir: nothing is written to x; --report_to json or tensorboard asks for it"});
  CHECK(options({"--logging_dir", "x", "--report_to", "json"}).notes.empty());
}

TEST_CASE("a number that is too large for what it counts is refused with the limit") {
  struct Row {
    std::vector<std::string> typed;
    std::string said;
  };
  const std::vector<Row> rows = {
      {{"--warmup_steps", "1e20"},
       "--warmup_steps: '1e20' is not a whole number from 0 to 1000000000000, or below 1 a share of all steps"},
      {{"--ddp_bucket_cap_mb", "1e300"}, "--ddp_bucket_cap_mb: '1e300' is not a number above 0 and up to 1000000"},
      {{"--max_steps", "4611686018427387904"},
       "--max_steps: '4611686018427387904' is not a whole number from 1 to 1000000000000, or -1"},
      {{"--max_steps", "99999999999999999999"},
       "--max_steps: '99999999999999999999' is not a whole number from 1 to 1000000000000, or -1"},
      {{"--seed", "99999999999999999999"},
       "--seed: '99999999999999999999' is not a whole number from 0 to 18446744073709551615"},
      {{"--data_seed", "18446744073709551616"},
       "--data_seed: '18446744073709551616' is not a whole number from 0 to 18446744073709551615"},
  };
  for (const Row& row : rows) {
    const auto parsed = parse(row.typed);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().what == row.said);
  }
  CHECK(options({"--seed", "18446744073709551615"}).seed == 18446744073709551615U);
  CHECK(options({"--warmup_steps", "1e12"}).warmup_steps == 1e12);
  CHECK(options({"--max_steps", "-1"}).max_steps == -1);
  CHECK(options({"--save_total_limit", "0"}).save_total_limit == 0);  // Hugging Face's word for all
}

TEST_CASE("help names every flag and the exit statuses, and is an answer, not an error") {
  const auto parsed = parse({"--help"});
  REQUIRE(parsed);
  for (const char* word : {"--data_dir", "--data_split digits|mnist", "--per_device_train_batch_size", "--max_steps",
                           "--use_cpu", "--loss_file", "exit status", "128+n"}) {
    CHECK_THAT(parsed->answer, Catch::Contains(word));
  }
  const auto version = parse({"--version"});
  REQUIRE(version);
  CHECK(version->answer == "llmlaunch-train " LLMLAUNCH_VERSION "\n");
}

}  // namespace trainer_options_test
