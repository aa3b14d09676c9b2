// The table of flags: names, limits, help. CLI11 stands behind it and behind flag_maker alone.
#include "trainer/option_table.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "trainer/emnist_splits.hpp"
#include "trainer/flag_maker.hpp"
#include "trainer/model.hpp"
#include "trainer/option_words.hpp"

namespace llmlaunch::trainer {
namespace {

/// "--per-device-train-batch-size=8" → "--per_device_train_batch_size=8"; values and short flags stay as they are.
std::string with_underscores(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const auto end = argument.begin() + static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size()));
  std::replace(argument.begin() + 2, end, '-', '_');
  return argument;
}

class HelpLayout final : public CLI::Formatter {
 public:
  HelpLayout() { column_width(36); }
};

/// More steps, and buckets of more MiB, nobody has; what is counted in whole numbers has to fit them.
constexpr double kMostSteps = 1e12;
constexpr double kMostBucketMib = 1e6;
constexpr double kMostCount = 1e9;
/// Files that want no limit have 180000000; of so many seconds the nanoseconds fit every clock.
constexpr double kMostSeconds = 1e9;

constexpr const char* kFolder = "the name of a folder";
constexpr const char* kFile = "the name of a file";

void add_data_flags(FlagMaker& flags, TrainOptions& o) {
  const NumberRule count = whole_number(1, kMostCount);
  flags.text(
      "--data_dir", o.data_dir, kFolder,
      "folder with the IDX files of MNIST, FashionMNIST, KMNIST, QMNIST or EMNIST, plain or .gz, or torchvision's "
      "root of it; without it digits are drawn");
  std::map<std::string, std::string> splits;
  for (const EmnistSplit& split : kEmnistSplits) splits[split.name] = split.name;
  flags
      .choice(
          "--data_split", o.data_split, splits,
          "which of EMNIST's splits, where data_dir has several; digits and mnist have ten classes, as the networks")
      ->type_name("digits|mnist");
  flags.number("--train_samples", o.train_samples, count,
               fmt::format("use only so many training images; how many to draw (default {})", kDrawnTrainSamples),
               true);
  flags.number("--eval_samples", o.eval_samples, count,
               fmt::format("use only so many test images; how many to draw (default {})", kDrawnEvalSamples), true);
  flags.text("--export_dataset", o.export_dataset, kFolder,
             "write the images into this folder as MNIST's four IDX files, for other programs, and end");
  flags.number("--per_device_train_batch_size", o.per_device_train_batch_size, count,
               "images per rank and batch (Hugging Face: 8)");
  flags.number("--per_device_eval_batch_size", o.per_device_eval_batch_size, count,
               "images per rank at a time in evaluation (Hugging Face: 8)");
  flags.on_off("--dataloader_drop_last", o.dataloader_drop_last,
               "leave out what does not fill a batch or cannot be dealt evenly; else the last batch is smaller and the "
               "shares are filled up from the list's head");
}

void add_length_flags(FlagMaker& flags, TrainOptions& o) {
  NumberRule steps = whole_number(1, kMostSteps);
  steps.takes += ", or -1";
  steps.also = -1;
  steps.hint_at_0 = "-1 is no limit; Hugging Face's Trainer takes one step for 0, which is 1 here";
  flags.number("--num_train_epochs", o.num_train_epochs, number_above_0(kMostCount),
               "passes over the training images, also a part of one (Hugging Face: 3)");
  flags.number("--max_steps", o.max_steps, steps,
               "stop after so many steps, whatever num_train_epochs says; -1: no such limit");
  flags.number("--gradient_accumulation_steps", o.gradient_accumulation_steps, whole_number(1, kMostCount),
               "batches per rank whose gradients make one step; an epoch's last step takes those that are left");
}

void add_optimizer_flags(FlagMaker& flags, TrainOptions& o) {
  flags.number("--learning_rate", o.learning_rate, number_from(0),
               "AdamW's, at its highest; a resumed job has the checkpoint's (Hugging Face: 5e-5)");
  flags
      .choice("--lr_scheduler_type", o.lr_scheduler_type, all_words<SchedulerType>(),
              "how the learning rate goes on after the warm-up, which constant does not have (Hugging Face: linear)")
      ->default_str(word_for(o.lr_scheduler_type));
  flags.number("--warmup_steps", o.warmup_steps, steps_or_share(kMostSteps, true),
               "steps over which the learning rate rises from 0; below 1: that share of all steps");
  flags.number("--weight_decay", o.weight_decay, number_from(0), "AdamW's, on every parameter (Hugging Face: 0)");
  flags.number("--adam_beta1", o.adam_beta1, share(), "AdamW's first beta");
  flags.number("--adam_beta2", o.adam_beta2, share(), "AdamW's second beta");
  flags.number("--adam_epsilon", o.adam_epsilon, number_above_0(), "AdamW's epsilon");
  flags.number("--max_grad_norm", o.max_grad_norm, number_from(0),
               "scale the averaged gradient down to this norm where it is larger; 0: never (Hugging Face: 1)");
  flags
      .choice(
          "--on_nan", o.on_nan, all_words<OnNan>(),
          "a loss that is not a number: stop the job with 65, skip steps whose gradient is not finite, or continue; "
          "these two end with 65 as well where the last test's loss or a weight is no number, or all steps were "
          "skipped")
      ->default_str(word_for(o.on_nan));
  flags.seed("--seed", o.seed, "of the weights, dropout and the order of the images (Hugging Face: 42)")
      ->capture_default_str();
  flags.seed("--data_seed", o.data_seed, "of the order of the images alone (default: seed)");
  flags.truth("--dropout", o.dropout, "on or off")->type_name("on|off")->default_str("on");
}

void add_report_flags(FlagMaker& flags, TrainOptions& o, OptionWords& words) {
  const std::map<std::string, bool> levels = {{"debug", true},  {"info", true},      {"warning", false},
                                              {"error", false}, {"critical", false}, {"passive", false}};
  const std::map<std::string, Progress> occasions = {
      {"auto", Progress::automatic}, {"always", Progress::always}, {"never", Progress::never}};
  flags
      .choice("--logging_strategy", o.logging_strategy, all_words<IntervalStrategy>(),
              "when to print the loss, and record it for reports: every logging_steps and after the last step, at each "
              "epoch's end, or never")
      ->default_str(word_for(o.logging_strategy));
  flags.number("--logging_steps", o.logging_steps, steps_or_share(kMostCount, false),
               "print the loss every so many steps; below 1: each such share of all steps (Hugging Face: 500)");
  flags.on_off("--logging_first_step", o.logging_first_step, "print the first step's loss, too");
  flags
      .choice("--eval_strategy", o.eval_strategy, all_words<IntervalStrategy>(),
              "when to look at the test images; after the last step always (Hugging Face: never by itself)")
      ->default_str(word_for(o.eval_strategy));
  flags.number("--eval_steps", o.eval_steps, steps_or_share(kMostCount, true),
               "with --eval_strategy steps: every so many, or such a share of all (default, and 0: logging_steps)",
               true);
  flags.choice("--log_level_replica", o.replicas_speak, levels, "info or debug: every rank prints what rank 0 prints")
      ->default_str("warning");
  flags.text("--loss_file", o.loss_file, kFile, "rank 0 writes every step's loss here, a line of JSON each");
  flags
      .list("--report_to", words.report_to, {"none", "json", "tensorboard", "all"},
            "what rank 0 writes beside what it prints: json (metrics.jsonl), tensorboard (event files in runs/), "
            "both with a comma between, all or none")
      ->default_str("none");
  flags.text("--logging_dir", o.logging_dir, kFolder, "folder for what report_to writes (default: output_dir)");
  flags
      .choice("--progress", o.progress, occasions,
              "one line that is drawn again at each step, instead of one every logging_steps; auto: when stdout is a "
              "terminal, or llmlaunch run shows it on one")
      ->default_str("auto");
  flags.on_off("--disable_tqdm", words.disable_tqdm, "Hugging Face's name of --progress never");
}

void add_checkpoint_flags(FlagMaker& flags, TrainOptions& o) {
  const std::map<std::string, std::optional<Metric>> metrics = {{"loss", Metric::loss},
                                                                {"eval_loss", Metric::loss},
                                                                {"accuracy", Metric::accuracy},
                                                                {"eval_accuracy", Metric::accuracy}};
  flags.text("--output_dir", o.output_dir, kFolder,
             "folder for checkpoints and reports; rank 0 writes and reads it (Hugging Face: trainer_output)");
  flags.choice("--save_strategy", o.save_strategy, all_words<SaveStrategy>(),
               "when to write a checkpoint; also at a SIGTERM or Ctrl-C, and with steps after the last one. best: "
               "after each test that beats those before by metric_for_best_model, and at no other step (default: steps "
               "with --output_dir, else no; Hugging Face: steps)");
  flags.number("--save_steps", o.save_steps, steps_or_share(kMostCount, true),
               "with --save_strategy steps: every so many, or such a share of all; 0: after the last step alone");
  NumberRule limit = whole_number(0, kMostCount);
  limit.negative_is_0 = true;
  flags.number("--save_total_limit", o.save_total_limit, limit,
               "keep so many checkpoints, the newest and the best (default, and 0 or below: all)", true);
  flags.text("--resume_from_checkpoint", o.resume_from_checkpoint, "the folder of a checkpoint, or true",
             "go on from this checkpoint; true: from the newest in output_dir, and from the start where there is none");
  flags.on_off(
      "--load_best_model_at_end", o.load_best_model_at_end,
      "test the checkpoint with the best metric again at the end; it is never removed. Needs save_strategy to be best, "
      "or the same as eval_strategy and save_steps to be a multiple of eval_steps");
  flags.choice("--metric_for_best_model", o.metric_for_best_model, metrics,
               "which one is the best; save_strategy best needs it (default: with load_best_model_at_end loss)");
  flags.truth("--greater_is_better", o.greater_is_better,
              "whether a greater metric is a better one (default: true for accuracy, false for loss)");
}

void add_device_flags(FlagMaker& flags, TrainOptions& o, OptionWords& words) {
  const std::map<std::string, DeviceChoice> devices = {
      {"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}};
  flags.choice("--device", o.device, devices, "auto takes a GPU where there is one")->default_str("auto");
  flags.on_off("--use_cpu", words.use_cpu, "the same as --device cpu");
  flags.number("--ddp_bucket_cap_mb", o.ddp_bucket_cap_mb, number_above_0(kMostBucketMib),
               "gradient buckets hold so many MiB (default: 25, the first one 1)", true);
  flags.number("--ddp_timeout", o.ddp_timeout, whole_number(1, kMostSeconds), "seconds that one collective may take");
  flags.number("--threads", o.threads, whole_number(1, kMostThreads),
               "compute threads of this rank (default: OMP_NUM_THREADS, else the host's cores shared by its ranks)",
               true);
}

void add_model_flags(FlagMaker& flags, TrainOptions& o, OptionWords& words) {
  std::map<std::string, std::string> names;
  for (const Model* model : all_models()) names[model->name] = model->name;
  flags.choice("--model", o.model, names, "the network that is trained")->default_str(all_models().front()->name);
  flags.on_off(
      "--bf16", words.bf16,
      "convolutions and matrix products of bfloat16 numbers, on a GPU convolutions of TF32 ones, sums and weights "
      "in fp32 (default: as mixed_precision in the YAML)");
  flags.on_off("--tf32", o.tf32,
               "the same of TF32 numbers, on a GPU from Ampere on; beside --bf16 and --fp16 it changes nothing");
  flags.on_off(
      "--fp16", words.fp16,
      "the same of half precision, as torch.autocast's, with torch.amp.GradScaler's scaled losses: a step whose "
      "gradient overflows changes no weight and no learning rate, and halves the scale, which begins at 65536; 2000 "
      "good steps double it. On a CPU, where Hugging Face's Trainer refuses it, by rounding: slower than fp32");
  flags.on_off("--cuda_graph", o.cuda_graph,
               "on a GPU, full batches' steps as one CUDA graph without the host between them, on images that lie in "
               "its memory; the same numbers. Off by default: it has not run on a GPU yet");
  flags.number("--dataloader_num_workers", o.dataloader_num_workers, whole_number(0, 256),
               "threads that fill batches ahead, the same ones in the same order; 0: the training thread does");
  flags.text("--predict", o.predict, kFile,
             "after the last step, rank 0 writes the test images' logits and labels here, a safetensors file");
}

constexpr const char* kFooter =
    R"(Hyphens and underscores in flags are the same. Alone it trains in one process; under llmlaunch run it is one
rank of many and finds the others through the environment.

FILE has the flags' names as keys, at its top or below one key train:, as YAML or as the JSON that Hugging Face's
TrainingArguments.to_json_string() writes. A name alone that ends in .json, .yaml or .yml is the same as --config.
Flags win over variables (LLMLAUNCH_TRAIN_LEARNING_RATE is --learning_rate), these over the file, and the file over
the defaults. Every rank reads the file, so that it has to be on every host.

exit status: 0 done, 64 wrong flag, 65 loss or weights are no numbers, or nothing was learnt, 66 data not found, 69 another rank, the rendezvous or the GPU is not available,
70 internal error, 71 no memory, 74 a file cannot be read or written (also a checkpoint, a report, the file of losses or stdout: training went on without it),
75 the job was ended by llmlaunch, or another one is at work in output_dir or logging_dir, or writes loss_file, 78 a wrong --config, damaged data or wrong environment, 128+n stopped by signal n)";

/// Behind the name, with or without hyphens: "seed: 'x' is not a whole number …", "data_dir needs the name of a
/// folder".
std::string sentence(const std::string& name, const WrongWord& word) {
  return fmt::format("{}{} {}", name, word.goes_on ? "" : ":", word.what);
}

/// A flag without its value: the last word, or one with another flag where its value should be, which CLI11 would take
/// for the value; -1 and -x are values.
std::optional<Error> missing_value(const CLI::App& app, const FlagMaker& flags, std::span<const std::string> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& flag = words[i];
    const CLI::Option* option = flag.starts_with("--") ? app.get_option_no_throw(flag) : nullptr;
    const FlagFacts* facts = flags.facts(flag);
    if (option == nullptr || facts == nullptr || option->get_items_expected_min() == 0) continue;
    const std::string what = fmt::format("{} needs a value, {}", flag, facts->takes);
    if (++i == words.size()) return make_error(Errc::usage, what, {}, "nothing stands behind it");
    const std::string& next = words[i];
    if (!next.starts_with("--")) continue;
    return make_error(Errc::usage, what, {},
                      fmt::format("behind it stands {0}; a value that begins with '-' is written {1}={0}",
                                  next.substr(0, next.find('=')), flag));
  }
  return std::nullopt;
}

/// The flag that has more values than it takes.
std::optional<Error> surplus_value(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() <= static_cast<std::size_t>(option->get_items_expected_max())) continue;
    return make_error(Errc::usage,
                      fmt::format("--{} is given {}: {}", option->get_lnames().front(),
                                  option->count() == 2 ? "twice" : "several times", listed(option->results())),
                      {}, "leave one of them");
  }
  return std::nullopt;
}

}  // namespace

struct OptionTable::Parts {
  CLI::App app{"Trains a small network on images of digits, alone or as one rank of many.", "llmlaunch-train"};
  FlagMaker flags{app};
  /// A flag that stands in no file, or no flag at all, is nullptr.
  CLI::Option* setting(const std::string& name) {
    if (name == "config" || name == "help" || name == "version") return nullptr;
    const auto options = app.get_options();
    const auto found = std::find_if(options.begin(), options.end(), [&](const CLI::Option* option) {
      return !option->get_lnames().empty() && option->get_lnames().front() == name;
    });
    return found == options.end() ? nullptr : *found;
  }
};

OptionTable::OptionTable(TrainOptions& options, OptionWords& words) : parts_(std::make_unique<Parts>()) {
  CLI::App& app = parts_->app;
  app.formatter(std::make_shared<HelpLayout>());
  app.footer(kFooter);
  app.set_version_flag("--version", "llmlaunch-train " LLMLAUNCH_VERSION);
  app.allow_extras();
  FlagMaker& flags = parts_->flags;
  flags.text("--config", words.config, kFile, "read settings from this file; see below")->type_name("FILE");
  add_data_flags(flags, options);
  add_model_flags(flags, options, words);
  add_length_flags(flags, options);
  add_optimizer_flags(flags, options);
  add_report_flags(flags, options, words);
  add_checkpoint_flags(flags, options);
  add_device_flags(flags, options, words);
}

OptionTable::~OptionTable() = default;

Result<OptionTable::Typed> OptionTable::parse(std::span<const std::string> arguments) {
  Typed typed;
  std::vector<std::string> words;
  for (const std::string& argument : arguments) {
    // CLI11 would take the next word for its value.
    const std::string flag = with_underscores(argument);
    if (!flag.starts_with("--") || flag.find('=') != flag.size() - 1) continue;
    const std::string name = flag.substr(0, flag.size() - 1);
    if (parts_->app.get_option_no_throw(name) == nullptr) continue;
    return make_error(Errc::usage, fmt::format("{} needs a value, and there is none behind its '='", name), {},
                      "is it a variable that is not set?");
  }
  // CLI11 takes them from the back.
  for (const std::string& argument : arguments) words.push_back(with_underscores(argument));
  if (const auto missing = missing_value(parts_->app, parts_->flags, words)) return *missing;
  try {
    parts_->app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::CallForHelp&) {
    typed.answer = parts_->app.help();
  } catch (const CLI::CallForVersion& e) {
    typed.answer = std::string(e.what()) + "\n";
  } catch (const WrongFlag& wrong) {
    return make_error(Errc::usage, sentence(wrong.flag, wrong.word), {},
                      wrong.word.hint.empty() ? kSeeHelp : wrong.word.hint);
  } catch (const CLI::ParseError& caught) {
    if (const auto surplus = surplus_value(parts_->app)) return *surplus;
    return make_error(Errc::usage, caught.what(), {}, kSeeHelp);
  }
  typed.extras = parts_->app.remaining();
  return typed;
}

bool OptionTable::has(const std::string& name) const {
  return parts_->app.count("--" + name) > 0;
}

std::optional<FlagKind> OptionTable::kind_of(const std::string& name) const {
  if (parts_->setting(name) == nullptr) return std::nullopt;
  const FlagFacts* facts = parts_->flags.facts("--" + name);
  return facts == nullptr ? std::optional<FlagKind>() : facts->kind;
}

Result<void> OptionTable::set(const std::string& name, std::span<const std::string> values) {
  const std::string flag = "--" + name;
  const std::string word = fmt::format("{}", fmt::join(values, ","));
  // An equals sign keeps "-1" from being a flag; an empty value has to be a word of its own.
  std::vector<std::string> words = {flag + "=" + word};
  if (word.empty()) words = {word, flag};
  try {
    parts_->app.parse(words);
  } catch (const WrongFlag& wrong) {
    return make_error(Errc::usage, sentence(name, wrong.word), {}, wrong.word.hint);
  } catch (const CLI::Error& caught) {
    return make_error(Errc::usage, fmt::format("{}: {}", name, caught.what()));
  }
  return ok;
}

std::vector<std::string> OptionTable::names() const {
  std::vector<std::string> all;
  for (const CLI::Option* option : parts_->app.get_options()) {
    for (const std::string& name : option->get_lnames()) all.push_back(name);
  }
  return all;
}

}  // namespace llmlaunch::trainer
