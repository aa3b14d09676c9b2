// Files of settings: the flags' names as keys, Hugging Face's own JSON, and the words for what is wrong in them.
#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "tests/support/catch.hpp"
#include "trainer/config_file.hpp"
#include "trainer/options.hpp"

namespace trainer_config_file_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

Result<ParsedOptions> parse(const std::string& text, std::vector<std::string> flags = {},
                            const std::string& mixed_precision = {}) {
  flags.insert(flags.begin(), {"--config", "cfg.yaml"});
  const auto read = [&](const std::string& path) -> Result<std::string> {
    CHECK(path == "cfg.yaml");
    return text;
  };
  return parse_options(flags, read, mixed_precision);
}

TrainOptions options(const std::string& text, const std::vector<std::string>& flags = {}) {
  const auto parsed = parse(text, flags);
  INFO((parsed ? std::string() : to_string(parsed.error())));
  REQUIRE(parsed);
  return parsed->options;
}

std::string fixture(const std::string& name) {
  std::ifstream file(std::string(LLMLAUNCH_FIXTURES) + "/training_arguments/" + name);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string replaced(std::string text, const std::string& old, const std::string& now) {
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), now);
}

}  // namespace

TEST_CASE("keys stand at the top or below train:, in YAML or JSON") {
  for (const char* text :
       {"learning_rate: 0.5\nmax_steps: -1\ndropout: off\nreport_to: [json, tensorboard]\noutput_dir: x\n",
        "train:\n  learning_rate: 0.5\n  dropout: off\n  report_to: all\n  output_dir: x\n",
        "train: {learning_rate: 0.5, dropout: off, report_to: 'json,tensorboard', output_dir: x}\n",
        R"({"learning_rate": 0.5, "dropout": "off", "report_to": ["json", "tensorboard"], "output_dir": "x"})",
        R"({"train": {"learning_rate": 5e-1, "dropout": "off", "report_to": "all", "output_dir": "x"}})"}) {
    CAPTURE(text);
    const TrainOptions o = options(text);
    CHECK(o.learning_rate == 0.5);
    CHECK_FALSE(o.dropout);
    CHECK(o.report_json);
    CHECK(o.report_tensorboard);
    CHECK(o.output_dir == "x");
    CHECK(o.save_strategy == SaveStrategy::steps);
  }
  CHECK(options("").learning_rate == 1e-3);
  CHECK(options("# nothing\n").learning_rate == 1e-3);
}

TEST_CASE("flags win over the file, and the file over the defaults") {
  const std::string file = "learning_rate: 0.5\nseed: 3\nuse_cpu: true\noutput_dir: x\nsave_strategy: epoch\n";
  const TrainOptions o = options(file, {"--learning_rate", "0.25"});
  CHECK(o.learning_rate == 0.25);
  CHECK(o.seed == 3);
  CHECK(o.device == DeviceChoice::cpu);
  CHECK(o.weight_decay == 1e-2);
  CHECK(o.save_strategy == SaveStrategy::epoch);
  CHECK(options(file, {"--device", "cuda"}).device == DeviceChoice::cuda);
  CHECK(options("device: cuda\n", {"--use_cpu"}).device == DeviceChoice::cpu);
  CHECK(options(file, {"--use_cpu", "false"}).device == DeviceChoice::automatic);
  CHECK(options("report_to: all\nlogging_dir: x\n", {"--report_to", "none"}).report_json == false);
  CHECK(options("disable_tqdm: true\n").progress == Progress::never);
  CHECK(options("disable_tqdm: true\n", {"--progress", "always"}).progress == Progress::always);
}

TEST_CASE("a name alone that ends as a file of settings is one, as for Hugging Face's scripts") {
  for (const char* name : {"args.json", "a/b.yaml", "c.yml"}) {
    const std::vector<std::string> arguments = {name, "--seed", "4"};
    const auto parsed = parse_options(arguments, [&](const std::string& path) -> Result<std::string> {
      CHECK(path == name);
      return std::string("learning_rate: 0.5");
    });
    REQUIRE(parsed);
    CHECK(parsed->options.learning_rate == 0.5);
    CHECK(parsed->options.seed == 4);
  }
  const auto both = parse("", {"other.json"});
  REQUIRE_FALSE(both);
  CHECK(both.error().code == Errc::usage);
  CHECK(both.error().what == "two files of settings: 'cfg.yaml' and 'other.json'");
}

TEST_CASE("a file without a setting, as a copy that was cut off, is warned of") {
  for (const char* text : {"", " \n\n", "# nothing\n", "null\n", "train:\n", "{}"}) {
    CAPTURE(text);
    CHECK(options(text).notes == std::vector<std::string>{"cfg.yaml: has no settings; is it whole?"});
  }
}

TEST_CASE("a missing file is its reader's error") {
  const std::vector<std::string> arguments = {"none.json"};
  const auto parsed = parse_options(arguments, [](const std::string& path) -> Result<std::string> {
    return make_error(Errc::invalid_config, "not there", path);
  });
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().where == "none.json");
}

TEST_CASE("all of TrainingArguments, as transformers 4 and 5 write it, is accepted with its values") {
  for (const char* name : {"transformers_4.json", "transformers_5.json"}) {
    CAPTURE(name);
    const TrainOptions o = options(fixture(name));
    CHECK(o.learning_rate == 5e-5);
    CHECK(o.num_train_epochs == 3);
    CHECK(o.per_device_train_batch_size == 8);
    CHECK(o.lr_scheduler_type == SchedulerType::linear);
    CHECK(o.weight_decay == 0);
    CHECK(o.max_grad_norm == 1);
    CHECK(o.seed == 42);
    CHECK(o.logging_steps == 500);
    CHECK(o.save_steps == 500);
    CHECK(o.save_strategy == SaveStrategy::steps);
    CHECK(o.output_dir == "runs/a");
    CHECK(o.ddp_timeout == 1800);
    CHECK(o.eval_strategy == IntervalStrategy::no);
    CHECK(o.notes.empty());  // defaults ask for nothing
  }
}

TEST_CASE("what the trainer does not have is named once when a file asks for it") {
  const std::string text =
      replaced(replaced(fixture("transformers_5.json"), "\"run_name\": null", "\"run_name\": \"mine\""),
               "\"torch_compile\": false", "\"torch_compile\": true");
  const TrainOptions o = options(text);
  CHECK(o.notes ==
        std::vector<std::string>{"cfg.yaml: left out, for the trainer has no such thing: torch_compile, run_name"});
  // transformers 4 names a run that nobody named by its folder.
  const auto notes = [](const std::string& name) {
    const auto parsed = parse(replaced(fixture("transformers_5.json"), "\"run_name\": null", "\"run_name\": " + name));
    REQUIRE(parsed);
    return parsed->options.notes.size();
  };
  CHECK(notes("\"runs/a\"") == 0);
  CHECK(notes("\"other\"") == 1);
}

TEST_CASE("reports that only Hugging Face's Trainer writes are left out of a list, and named") {
  const TrainOptions o = options("report_to: [wandb, tensorboard, mlflow]\nlogging_dir: x\n");
  CHECK(o.report_tensorboard);
  CHECK_FALSE(o.report_json);
  CHECK(o.notes == std::vector<std::string>{
                       "cfg.yaml: left out, for the trainer has no such thing: report_to wandb, report_to mlflow"});
  CHECK_FALSE(options("report_to: [wandb]\n").report_tensorboard);
}

TEST_CASE("a value that asks for other numbers is refused with its place") {
  struct Row {
    std::string old, now, what, hint;
  };
  const std::vector<Row> rows = {
      {"\"bf16_full_eval\": false", "\"bf16_full_eval\": true", "bf16_full_eval: true would", "float32"},
      {"\"optim\": \"adamw_torch\"", "\"optim\": \"sgd\"", "optim: sgd would give other numbers",
       "AdamW (adamw_torch)"},
      {"\"deepspeed\": null", "\"deepspeed\": \"zero.json\"", "deepspeed: zero.json would",
       "whole model on every rank"},
      {"\"deepspeed\": null", "\"deepspeed\": {\"stage\": 3}", "deepspeed: a mapping would", "whole model"},
      {"\"label_smoothing_factor\": 0.0", "\"label_smoothing_factor\": 0.1", "label_smoothing_factor: 0.1 would",
       "labels"},
      {"\"accelerator_config\": null", "\"accelerator_config\": {\"even_batches\": true, \"split_batches\": true}",
       "split_batches: true would", "per_device_train_batch_size"},
      {"\"accelerator_config\": null", "\"accelerator_config\": {\"even_batches\": false}", "even_batches: false would",
       "--dataloader_drop_last"},
      {"\"accelerator_config\": null", "\"accelerator_config\": {\"gradient_accumulation_kwargs\": {\"num_steps\": 8}}",
       "num_steps: 8 would", "write gradient_accumulation_steps"},
      {"\"lr_scheduler_type\": \"linear\"", "\"lr_scheduler_type\": \"polynomial\"",
       "lr_scheduler_type: 'polynomial' is not one of constant, constant_with_warmup, cosine, linear", ""},
      {"\"num_train_epochs\": 3.0", "\"num_train_epochs\": 0.0", "num_train_epochs: '0.0' is not a number above 0", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.now);
    const auto parsed = parse(replaced(fixture("transformers_4.json"), row.old, row.now));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::invalid_config);
    CHECK_THAT(parsed.error().what, Catch::StartsWith(row.what) && Catch::Contains(row.hint) && Catch::Contains("^"));
    CHECK_THAT(parsed.error().where, Catch::StartsWith("cfg.yaml:"));
  }
}

TEST_CASE("what is a default, or 0 in other words, asks for nothing") {
  for (const char* text :
       {"label_smoothing_factor: 0.00\n", "label_smoothing_factor: 0e0\n", "past_index: -1.0\n",
        "accelerator_config: {split_batches: false, dispatch_batches: null, even_batches: true, "
        "use_seedable_sampler: true, non_blocking: false, gradient_accumulation_kwargs: null}\n",
        "accelerator_config: {gradient_accumulation_kwargs: {num_steps: 1}}\n",
        "fsdp_config: {min_num_params: 0, xla: false, xla_fsdp_v2: false}\n", "dataloader_in_order: true\n"}) {
    CAPTURE(text);
    CHECK(options(text).notes.empty());
  }
  for (const char* text : {"accelerator_config: {use_seedable_sampler: false}\n",
                           "accelerator_config: {gradient_accumulation_kwargs: {adjust_scheduler: 7}}\n"}) {
    CAPTURE(text);
    CHECK(options(text).notes ==
          std::vector<std::string>{"cfg.yaml: left out, for the trainer has no such thing: accelerator_config"});
  }
  CHECK(options("dataloader_in_order: false\n").notes.size() == 1);
}

TEST_CASE("report_to as one text is a list of one") {
  const auto wandb = options("report_to: wandb\n");
  CHECK_FALSE(wandb.report_json);
  CHECK(wandb.notes ==
        std::vector<std::string>{"cfg.yaml: left out, for the trainer has no such thing: report_to wandb"});
  CHECK(options("report_to: json,wandb\nlogging_dir: x\n").report_json);
  // transformers adds it by itself to what is asked for, in a job of Kubeflow's.
  CHECK(options(R"({"report_to": ["tensorboard", "kubeflow"], "output_dir": "x"})").report_tensorboard);
}

TEST_CASE("a file's bf16: true is said, and its false says nothing against mixed_precision") {
  const auto beside = [](const std::string& asked, const std::string& text,
                         const std::vector<std::string>& flags = {}) {
    const auto parsed = parse(text, flags, asked);
    REQUIRE(parsed);
    return parsed->options.precision;
  };
  CHECK(beside("no", "bf16: true\n") == Precision::bf16);
  CHECK(beside("bf16", "bf16: false\n") == Precision::bf16);
  CHECK(beside("bf16", "bf16: true\n", {"--bf16", "false"}) == Precision::fp32);
  CHECK(beside("bf16", "fp16: true\n") == Precision::fp16);
  CHECK(beside("fp16", "fp16: false\n") == Precision::fp16);
  const auto both = parse("bf16: true\nfp16: true\n");
  REQUIRE_FALSE(both);
  CHECK_THAT(both.error().what, Catch::StartsWith("fp16 and bf16 do not go together"));
  CHECK(both.error().where == "cfg.yaml:2:1");
  CHECK(beside("", "bf16: true\n", {"--fp16"}) == Precision::fp16);
  CHECK(beside("", "fp16: true\n", {"--bf16"}) == Precision::bf16);
  CHECK(options("tf32: true\nmodel: mlp\ndataloader_num_workers: 2\n").tf32);
}

TEST_CASE("a split of EMNIST is a setting of the file, and one that cannot be learnt is told with its place") {
  CHECK(options("train:\n  data_dir: x\n  data_split: digits\n").data_split == "digits");
  const auto letters = parse("data_dir: x\ndata_split: letters\n");
  REQUIRE_FALSE(letters);
  CHECK(letters.error().where == "cfg.yaml:2:1");
  CHECK_THAT(letters.error().what,
             Catch::StartsWith("data_split letters: it has 26 classes, and the networks here tell ten apart"));
}

TEST_CASE("train: with nothing below has no keys") {
  CHECK(options("train:\n").seed == 0);
  CHECK(options("train: {}\n", {"--seed", "4"}).seed == 4);
}

TEST_CASE("other versions' names mean the same") {
  CHECK(options("evaluation_strategy: epoch\n").eval_strategy == IntervalStrategy::epoch);
  CHECK(options("no_cuda: true\n").device == DeviceChoice::cpu);
  CHECK(options("no_cuda: false\nuse_cpu: true\n").device == DeviceChoice::cpu);
  CHECK(options("warmup_ratio: 0.1\n").warmup_steps == 0.1);
  CHECK(options("warmup_ratio: 0.1\nwarmup_steps: 0\n").warmup_steps == 0.1);
  CHECK(options("warmup_ratio: 0.1\nwarmup_steps: 20\n").warmup_steps == 20);
  CHECK(options("warmup_ratio: 0.0\nwarmup_steps: 20\n").warmup_steps == 20);
  CHECK(options("metric_for_best_model: eval_accuracy\n").metric_for_best_model == Metric::accuracy);
}

TEST_CASE("what is said alike by an old name and the present one, as transformers 4 writes it, is said once") {
  CHECK(options("evaluation_strategy: epoch\neval_strategy: epoch\n").eval_strategy == IntervalStrategy::epoch);
  CHECK(options(R"({"eval_strategy": "steps", "evaluation_strategy": "steps", "eval_steps": 7})").eval_steps == 7);
  CHECK(options(R"({"no_cuda": true, "use_cpu": true})").device == DeviceChoice::cpu);
  CHECK(options("no_cuda: yes\nuse_cpu: true\n", {"--device", "auto"}).device == DeviceChoice::automatic);
}

TEST_CASE("Hugging Face's words for all steps, for no limit and for the last step alone") {
  const TrainOptions warm = options("warmup_ratio: 1.0\nwarmup_steps: 0\n");
  CHECK(warm.warmup_steps < 1);  // 1 would be one step; a share of steps is rounded up
  for (const double steps : {1., 3., 64., 1e6, 1e12}) CHECK(std::ceil(warm.warmup_steps * steps) == steps);
  for (const char* all : {"-1", "0", "-5"}) {
    CHECK(options(fmt::format("save_total_limit: {}\n", all)).save_total_limit == 0);
    CHECK(options("save_total_limit: 3\n", {"--save_total_limit", all}).save_total_limit == 0);
  }
  CHECK(options("save_strategy: steps\nsave_steps: 0\noutput_dir: x\n").save_steps == 0);
}

TEST_CASE("a number of steps that is 0 says nothing where its strategy looks at no steps") {
  CHECK(options("eval_steps: -1\neval_strategy: epoch\n").eval_steps == TrainOptions().eval_steps);
  CHECK(options("eval_steps: -1\nevaluation_strategy: 'no'\n").eval_steps == TrainOptions().eval_steps);
  CHECK(options("logging_strategy: epoch\nlogging_steps: 0\n").logging_steps == TrainOptions().logging_steps);
  CHECK(options("logging_steps: 0.0\nlogging_strategy: 'NO'\n").logging_strategy == IntervalStrategy::no);
  CHECK(options("save_strategy: no\nsave_steps: 0\n").save_steps == TrainOptions().save_steps);
  CHECK(options("save_steps: 0\nsave_strategy: epoch\noutput_dir: x\n").save_strategy == SaveStrategy::epoch);
}

TEST_CASE("a limit of many years, which files have that want none, is taken") {
  CHECK(options(R"({"ddp_timeout": 180000000})").ddp_timeout == 180000000);
}

TEST_CASE("what is wrong in a file is one message with place, line and caret") {
  struct Row {
    std::string text, where, what;
  };
  const std::vector<Row> rows = {
      {"train:\n  learning_rate: 1\n  learning_rat: 2\n", "cfg.yaml:3:3",
       "unknown key 'learning_rat'\n    3 |   learning_rat: 2\n      |   ^ did you mean 'learning_rate'?"},
      {"zzz: 1\n", "cfg.yaml:1:1",
       "unknown key 'zzz'\n    1 | zzz: 1\n      | ^ llmlaunch-train --help lists the flags, which are the keys"},
      {"config: x\n", "cfg.yaml:1:1",
       "unknown key 'config'\n    1 | config: x\n      | ^ llmlaunch-train --help lists the flags, which are the keys"},
      {"fp1: true\n", "cfg.yaml:1:1", "unknown key 'fp1'\n    1 | fp1: true\n      | ^ did you mean 'fp16'?"},
      {"seed: 1\nseed: 2\n", "cfg.yaml:2:1", "key 'seed' is given twice, first on line 1\n    2 | seed: 2\n      | ^"},
      {"eval_strategy: epoch\nevaluation_strategy: steps\n", "cfg.yaml:2:1",
       "'eval_strategy' is given twice\n    2 | evaluation_strategy: steps\n      | ^ first on line 1"},
      {"logging_strategy: steps\nlogging_steps: 0\n", "cfg.yaml:2:16", "logging_steps: '0' is not a whole number"},
      {"save_steps: -1\n", "cfg.yaml:1:13", "save_steps: '-1' is not a whole number"},
      {"eval_strategy: steps\neval_steps: -1\n", "cfg.yaml:2:13", "eval_steps: '-1' is not a whole number"},
      {"learning_rate: fast\n", "cfg.yaml:1:16", "learning_rate: 'fast' is not a number from 0\n"},
      {"warmup_ratio: abc\n", "cfg.yaml:1:15", "warmup_ratio: a number from 0 to 1 is expected, and this is abc"},
      {"warmup_ratio: 0.1x\nwarmup_steps: 5\n", "cfg.yaml:1:15", "warmup_ratio: a number from 0"},
      {"warmup_ratio: 1.1\n", "cfg.yaml:1:15", "warmup_ratio: a number from 0"},
      {"warmup_ratio: -0.1\n", "cfg.yaml:1:15", "warmup_ratio: a number from 0"},
      {"warmup_ratio: 0.1\nwarmup_steps: ten\n", "cfg.yaml:2:15",
       "warmup_steps: 'ten' is not a whole number from 0 to"},
      {"seed: 99999999999999999999\n", "cfg.yaml:1:7",
       "seed: '99999999999999999999' is not a whole number from 0 to 18446744073709551615\n"},
      {"{\"run_name\": \"\\ud83d\\ude00\", \"seed\": \"x\"}", "cfg.yaml:1:38", "seed: a number is expected"},
      {"{\"run_name\": \"\\ud83d\\ude00\\ud83d\\ude00\", \"seed\" 1}", "cfg.yaml:1:49", ""},
      {"{\"run_name\": \"\\ud83d\\ude00\",\n \"seed\": \"x\"}", "cfg.yaml:2:10", "seed: a number is expected"},
      {"learning_rate: \"0.1\"\n", "cfg.yaml:1:16",
       "learning_rate: a number is expected, and this is a text in quotes\n    1 | learning_rate: \"0.1\"\n"},
      {"learning_rate: [0.1]\n", "cfg.yaml:1:16", "learning_rate: a number is expected, and this is a list\n"},
      {"data_dir: {a: 1}\n", "cfg.yaml:1:11", "data_dir: one value is expected, and this is a mapping\n"},
      {"report_to: [[json]]\n", "cfg.yaml:1:13", "report_to: a word is expected, and this is a list\n"},
      {"report_to: [wandbs]\noutput_dir: x\n", "cfg.yaml:1:12",
       "report_to: 'wandbs' is not one of none, json, tensorboard, all\n"},
      {"logging_steps: 0\n", "cfg.yaml:1:16",
       "logging_steps: '0' is not a whole number from 1 to 1000000000, or below 1 a share of all steps\n"},
      {"output_dir: ''\n", "cfg.yaml:1:13", "output_dir needs the name of a folder\n"},
      {"max_steps: 0\n", "cfg.yaml:1:12",
       "max_steps: '0' is not a whole number from 1 to 1000000000000, or -1\n    1 | max_steps: 0\n      |            "
       "^ -1 is no limit; Hugging Face's Trainer takes one step for 0, which is 1 here"},
      {"seed: 1\nsave_strategy: epoch\n", "cfg.yaml:2:1", "save_strategy needs output_dir\n"},
      {"report_to: json\n", "cfg.yaml:1:1", "report_to needs output_dir or logging_dir\n"},
      {"use_cpu: true\ndevice: cuda\n", "cfg.yaml:1:1", "use_cpu and device cuda contradict each other\n"},
      {"load_best_model_at_end: true\noutput_dir: x\n", "cfg.yaml:1:1",
       "load_best_model_at_end needs one strategy to test and to save, and eval_strategy is no and save_strategy "
       "steps\n"},
      {"save_strategy: best\noutput_dir: x\neval_strategy: epoch\n", "cfg.yaml:1:1",
       "save_strategy best needs metric_for_best_model\n"},
      {"- 1\n", "cfg.yaml:1:1", "these are no settings\n"},
      {"train: 5\n", "cfg.yaml:1:8",
       "train: a mapping is expected\n    1 | train: 5\n      |        ^ write settings below it, indented"},
      {"train:\n- seed\n", "cfg.yaml:2:1", "train: a mapping is expected\n"},
      {"train:\nseed: 2\n", "cfg.yaml:2:1", "key 'seed' stands beside 'train'\n"},
      {"trian:\n  seed: 2\n", "cfg.yaml:1:1", "unknown key 'trian'\n    1 | trian:\n      | ^ did you mean 'train'?"},
      {"trian:\n", "cfg.yaml:1:1", "unknown key 'trian'\n    1 | trian:\n      | ^ did you mean 'train'?"},
      {"train: {seed: 1}\nseed: 2\n", "cfg.yaml:2:1", "key 'seed' stands beside 'train'\n"},
      {"seed: 1\n---\nseed: 2\n", "cfg.yaml:2:1", "a second document; one file holds the settings of one job\n"},
      {"seed: !!binary x\n", "cfg.yaml:1:7", "the tag 'tag:yaml.org,2002:binary' is not supported"},
      {"{\"seed\": 1\n", "cfg.yaml:1:1", "a '{' without '}'\n"},
      {"data_dir: \"x\n", "cfg.yaml:1:1", "a text in quotes has no closing quote; it begins here or behind this\n"},
      {std::string(20, '[') + std::string(20, ']'), "cfg.yaml:1:17", "nested deeper than 16 levels\n"},
      {"data_dir: &a [*a]\n", "cfg.yaml:1:15", "an alias inside the value that it names\n"},
      {std::string("seed: 1\0", 8), "cfg.yaml", "this is no UTF-8 text: see line 1, column 8"},
      {"# ok\ndata_dir: \xff\n", "cfg.yaml", "this is no UTF-8 text: see line 2, column 11"},
      {std::string(kMaxTrainFile + 1, '#'), "cfg.yaml", "1048577 bytes are more than the limit of 1048576"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text.substr(0, 200));
    const auto parsed = parse(row.text);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::invalid_config);
    CHECK(parsed.error().where == row.where);
    CHECK_THAT(parsed.error().what, Catch::StartsWith(row.what));
  }
}

TEST_CASE("anchors that multiply end at a limit") {
  std::string text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 9; ++k) text += before + ", ";
    text += before + "]\n";
  }
  const auto parsed = parse(text);
  REQUIRE_FALSE(parsed);
  CHECK_THAT(parsed.error().what, Catch::StartsWith("more than 10000 values"));
}

TEST_CASE("JSON's escapes are those of JSON") {
  CHECK(options(R"({"data_dir": "\u00e9\ud83d\ude00\/\\ud83d"})").data_dir == "\xc3\xa9\xf0\x9f\x98\x80/\\ud83d");
}

TEST_CASE("a secret on the line of an error is not shown") {
  const auto parsed = parse(R"({"optim": "sgd", "hub_token": "hf_sesame"})");
  REQUIRE_FALSE(parsed);
  CHECK_THAT(parsed.error().what, Catch::Contains("\"hub_token\": …") && !Catch::Contains("sesame"));
  // A tab before the colon, the value on lines of its own, and YAML's other ways to write a key and a text.
  for (const char* text : {
           "{\"optim\": \"sgd\", \"hub_token\"\t: \"hf_sesame\"}",
           "{\"hub_token\":\n \"hf_sesame\", \"optim\": \"sgd\"}",
           "{\"hub_token\":\n\n \"hf_sesame\" x",
           "hub_token:\n  hf_sesame: x: y\n",
           "hub_token: |\n  open\n  hf_sesame\n\tx: 1\n",
           "a: 1\nhub_token:\n  open\n  x: hf_sesame: y\n",
           "? hub_token\n: hf_sesame: x: y\n",
           "hub_token: [a,\n hf_sesame, {b: c\n",
           "hub_tokn: hf_sesame\n",
           "my_api_key: hf_sesame\n",
           "hub-passwrod: hf_sesame\n",
           "{\"fp16\": true, \"toekn\": \"hf_sesame\"}",
           // A secret that is written elsewhere.
           "x: &x hf_sesame\nhub_token: *x\n",
           "seed: &x hf_sesame\nhub_token: *x\n",
           "optim: &x hf_sesame\nhub_token: *x\n",
           "deepspeed: &x\n- hf_sesame\nhub_token: *x\nzzz: 1\n",
           "x: &x hf_sesame: y\nhub_token:\n  *x\n",
           "x: &x\n  y: hf_sesame: z\nhub_token: [1, *x]\n",
           // And that a hint is made of.
           "hub_token: &t sesame.json\nbf16: *t\n",
           "seed: 1\nhub_token: &t \"1,sesame\"\nlearning_rate: *t\n",
       }) {
    CAPTURE(text);
    const auto refused = parse(text);
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().what + refused.error().where + refused.error().hint, !Catch::Contains("sesame"));
  }
  for (const char* text : {"hub_token: &t 12345,5\nlearning_rate: *t\n"}) {
    CHECK_THAT(parse(text).error().what, !Catch::Contains("12345"));  // nor with a point for its comma
  }
  // What comes after it is shown.
  CHECK_THAT(parse("hub_token: hf_sesame\nzzz: 1\n").error().what, Catch::Contains("2 | zzz: 1"));
}

TEST_CASE("a long value is cut between two letters, and so is a secret that is looked for") {
  const std::string begin(59, 'a');
  CHECK_THAT(parse("device: " + begin + "\u00fcb\n").error().what,
             Catch::StartsWith("device: '" + begin + "\u2026' is not one of "));
  CHECK_THAT(parse("warmup_ratio: " + begin + "\u00fcb\n").error().what,
             Catch::Contains("and this is " + begin + "\u2026\n"));
  CHECK_THAT(parse(begin + "\u00fcb: 1\n").error().what, Catch::StartsWith("unknown key '" + begin + "'\n"));
  const std::string secret = "hf_sesame" + std::string(50, 'a') + "\u00fcb";
  const auto refused = parse("device: &x " + secret + "\nhub_token: *x\n");
  REQUIRE_FALSE(refused);
  CHECK_THAT(to_string(refused.error()), !Catch::Contains("sesame"));
}

TEST_CASE("a secret's words are hidden, and no others") {
  CHECK_THAT(parse("hub_token: true\nfp16: perhaps\n").error().what, Catch::Contains("2 | fp16: perhaps"));
  CHECK_THAT(parse("include_tokens_per_second: falsely\nseed: falsely\n").error().what, Catch::Contains("'falsely'"));
  CHECK_THAT(parse("x: &x visible\ny: *x\n").error().what, Catch::Contains("visible"));
}

TEST_CASE("truths in a file are YAML's, of any kind") {
  for (const char* yes : {"yes", "on", "TRUE", "True", "true", "'true'", "1"}) {
    CAPTURE(yes);
    CHECK(options(std::string("tf32: ") + yes + "\n").tf32);
  }
  for (const char* no : {"no", "off", "FALSE", "False", "0"}) {
    CAPTURE(no);
    CHECK_FALSE(options(std::string("tf32: ") + no + "\n").tf32);
    CHECK(options(std::string("torch_compile: ") + no + "\nno_cuda: " + no + "\n").notes.empty());
  }
  CHECK(options("resume_from_checkpoint: yes\noutput_dir: x\n").resume_from_checkpoint == "true");
  CHECK(options("eval_strategy: EPOCH\n").eval_strategy == IntervalStrategy::epoch);
}

TEST_CASE("parts of epochs and shares of steps are taken as Hugging Face's files have them") {
  const TrainOptions o = options(
      "num_train_epochs: 0.5\nlogging_steps: 0.1\nsave_steps: 0.25\neval_steps: 0\nlogging_strategy: epoch\n"
      "eval_strategy: steps\n");
  CHECK(o.num_train_epochs == 0.5);
  CHECK(o.logging_steps == 0.1);
  CHECK(o.save_steps == 0.25);
  CHECK(o.eval_steps == 0);
  CHECK(o.logging_strategy == IntervalStrategy::epoch);
}

TEST_CASE("a file's folder for reports is told of when it asks for none") {
  CHECK(options("logging_dir: x\n").notes.size() == 1);
  CHECK(options("logging_dir: x\nreport_to: []\n").notes.empty());  // as transformers 4 writes it
}

TEST_CASE("a file that asks how to save, and not where, is told that nothing is saved") {
  CHECK(options("save_steps: 500\nsave_total_limit: null\n").notes.empty());
  CHECK(options("save_steps: 100\nsave_total_limit: 3\n").notes ==
        std::vector<std::string>{"--save_total_limit 3: no checkpoints are written; that needs --output_dir",
                                 "--save_steps 100: no checkpoints are written; that needs --output_dir"});
  CHECK(options("output_dir: x\nsave_steps: 100\nsave_strategy: epoch\n").notes.empty());
}

TEST_CASE("what stands in a file and flags contradict together is blamed on who said it") {
  const auto typed = parse("eval_strategy: epoch\n", {"--eval_steps", "3"});
  REQUIRE_FALSE(typed);
  CHECK(typed.error().code == Errc::usage);
  CHECK(typed.error().what == "--eval_steps needs --eval_strategy steps");
  // In a file flags have no hyphens, and a path keeps its own.
  const auto in_file = parse("seed: 1\npredict: runs--a/x\nloss_file: runs--a/./x\n");
  REQUIRE_FALSE(in_file);
  CHECK(in_file.error().where == "cfg.yaml:2:1");
  CHECK(in_file.error().what ==
        "predict and loss_file name the same file, runs--a/x\n    2 | predict: runs--a/x\n      | ^ give each its own");
  CHECK_THAT(parse("cuda_graph: true\n", {}, "fp16").error().what,
             Catch::StartsWith("cuda_graph and mixed_precision fp16 (ACCELERATE_MIXED_PRECISION) do not go together") &&
                 Catch::Contains("or add --fp16 false"));
  // A whole file of Hugging Face's has both.
  CHECK(options("eval_strategy: epoch\neval_steps: 3\nsave_steps: 500\n").eval_strategy == IntervalStrategy::epoch);
}

}  // namespace trainer_config_file_test
