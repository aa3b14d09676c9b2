// The table of flags: names, limits, help. The only file of the trainer that sees CLI11.
#include "trainer/option_table.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "trainer/model.hpp"

namespace llmlaunch::trainer {
namespace {

/// "--per-device-train-batch-size=8" → "--per_device_train_batch_size=8"; values and short flags stay as they are.
std::string with_underscores(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const auto end = argument.begin() + static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size()));
  std::replace(argument.begin() + 2, end, '-', '_');
  return argument;
}

/// Letters that are missing, too many or others, and neighbours that changed places.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

class HelpLayout final : public CLI::Formatter {
 public:
  HelpLayout() { column_width(36); }
};

/// An option that takes one of a few words.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value, const std::map<std::string, T>& words,
                        const std::string& help) {
  std::vector<std::string> names;
  for (const auto& [word, meaning] : words) names.push_back(word);
  return app
      .add_option_function<std::string>(
          name, [&value, words](const std::string& word) { value = words.at(word); }, help)
      ->check(CLI::IsMember(names).description(""))
      ->type_name(fmt::format("{}", fmt::join(names, "|")));
}

/// A switch as Hugging Face's: alone it means true, and true or false may follow. T: bool, or one that may be unsaid.
template <class T>
CLI::Option* add_switch(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  const std::map<std::string, T> truths = {{"true", true}, {"false", false}, {"True", true}, {"False", false}};
  return add_choice(app, name, value, truths, help)->expected(0, 1)->default_str("true")->option_text("[true|false]");
}

/// More steps, and buckets of more MiB, nobody has; what is counted in whole numbers has to fit them.
constexpr double kMostSteps = 1e12;
constexpr double kMostBucketMib = 1e6;

/// A number that is one, from 0, or above it, and up to `most`.
CLI::Validator number_from_zero(bool zero_too, double most = std::numeric_limits<double>::max()) {
  return {[zero_too, most](const std::string& word) -> std::string {
            double value = 0;
            if (!CLI::detail::lexical_cast(word, value) || !std::isfinite(value)) return word + " is not a number";
            if (value > most) return fmt::format("{} is above {:.0f}", word, most);
            if (value > 0 || (zero_too && value == 0)) return {};
            return word + (zero_too ? " is below 0" : " is not above 0");
          },
          ""};
}

/// AdamW divides by 1 - beta^step.
CLI::Validator adam_beta() {
  return {[](const std::string& word) -> std::string {
            double value = 0;
            const bool good = CLI::detail::lexical_cast(word, value) && value >= 0 && value < 1;
            return good ? std::string() : word + " is not a number from 0 and below 1";
          },
          ""};
}

/// Digits only: a minus would be taken for a very large number, and a larger number for the largest.
CLI::Validator whole_number() {
  return {[](const std::string& word) -> std::string {
            std::uint64_t value = 0;
            const char* const end = word.data() + word.size();
            const auto [stop, failed] = std::from_chars(word.data(), end, value);
            if (failed == std::errc::invalid_argument || stop != end) return word + " is not a number from 0";
            if (failed == std::errc()) return {};
            return fmt::format("{} is above {}", word, std::numeric_limits<std::uint64_t>::max());
          },
          ""};
}

/// What is below 0 is the option's own affair.
CLI::Validator number_up_to(double most) {
  return {[most](const std::string& word) -> std::string {
            double value = 0;
            if (CLI::detail::lexical_cast(word, value) && value > most) {
              return fmt::format("{} is above {:.0f}", word, most);
            }
            return {};
          },
          ""};
}

/// CLI11 would take 010 for 8, and 0x10 for 16.
CLI::Validator decimal_digits() {
  return {[](std::string& word) {
            const std::size_t first = word.starts_with('-') || word.starts_with('+') ? 1 : 0;
            while (word.size() > first + 1 && word[first] == '0' && word[first + 1] >= '0' && word[first + 1] <= '9') {
              word.erase(first, 1);
            }
            const bool other = word.size() > first + 1 && word[first] == '0' &&
                               std::isalpha(static_cast<unsigned char>(word[first + 1])) != 0 &&
                               word[first + 1] != 'e' && word[first + 1] != 'E';
            return other ? word + " is not a decimal number" : std::string();
          },
          ""};
}

CLI::Validator named_file() {
  return {
      [](const std::string& word) { return word.empty() ? std::string("needs the name of a file") : std::string(); },
      ""};
}

CLI::Validator named_folder() {
  return {
      [](const std::string& word) { return word.empty() ? std::string("needs the name of a folder") : std::string(); },
      ""};
}

/// A whole number from 1. Hugging Face's files write 3 epochs as 3.0.
CLI::Option* from_one(CLI::Option* option) {
  static const CLI::Range range(std::uint32_t{1}, std::uint32_t{1'000'000'000});
  const auto without_point = [](const std::string& word) {
    const std::size_t point = word.find('.');
    const bool whole =
        point != std::string::npos && point > 0 && word.find_first_not_of('0', point + 1) == std::string::npos;
    return whole ? word.substr(0, point) : word;
  };
  return option->check(range)->transform(CLI::Validator(
      [without_point](std::string& word) {
        word = without_point(word);
        return std::string();
      },
      ""));
}

void add_data_flags(CLI::App& app, TrainOptions& o) {
  app.add_option(
         "--data_dir", o.data_dir,
         "folder with MNIST's IDX files, plain or .gz, or torchvision's root of it; without it digits are drawn")
      ->check(named_folder());
  from_one(app.add_option(
      "--train_samples", o.train_samples,
      fmt::format("use only so many training images; how many to draw (default {})", kDrawnTrainSamples)));
  from_one(
      app.add_option("--eval_samples", o.eval_samples,
                     fmt::format("use only so many test images; how many to draw (default {})", kDrawnEvalSamples)));
  app.add_option("--export_dataset", o.export_dataset,
                 "write the images into this folder as MNIST's four IDX files, for other programs, and end")
      ->check(named_folder());
  from_one(app.add_option("--per_device_train_batch_size", o.per_device_train_batch_size,
                          "images per rank and batch (Hugging Face: 8)")
               ->capture_default_str());
  from_one(app.add_option("--per_device_eval_batch_size", o.per_device_eval_batch_size,
                          "images per rank at a time in evaluation (Hugging Face: 8)")
               ->capture_default_str());
  add_switch(app, "--dataloader_drop_last", o.dataloader_drop_last,
             "leave out what does not fill a batch or cannot be dealt evenly; else the last batch is smaller and the "
             "shares are filled up from the list's head");
}

void add_length_flags(CLI::App& app, TrainOptions& o) {
  from_one(app.add_option("--num_train_epochs", o.num_train_epochs, "passes over the training images (Hugging Face: 3)")
               ->capture_default_str());
  app.add_option("--max_steps", o.max_steps,
                 "stop after so many steps, whatever num_train_epochs says; -1: no such limit")
      ->capture_default_str()
      ->check(number_up_to(kMostSteps));
  from_one(
      app.add_option("--gradient_accumulation_steps", o.gradient_accumulation_steps,
                     "batches per rank whose gradients make one step; an epoch's last step takes those that are left")
          ->capture_default_str());
}

void add_optimizer_flags(CLI::App& app, TrainOptions& o) {
  const std::map<std::string, SchedulerType> schedulers = {{"constant", SchedulerType::constant},
                                                           {"constant_with_warmup", SchedulerType::constant},
                                                           {"linear", SchedulerType::linear},
                                                           {"cosine", SchedulerType::cosine}};
  const std::map<std::string, bool> switches = {{"on", true}, {"off", false}};
  const std::map<std::string, OnNan> answers = {
      {"stop", OnNan::stop}, {"skip", OnNan::skip}, {"continue", OnNan::carry_on}};
  app.add_option("--learning_rate", o.learning_rate,
                 "AdamW's, at its highest; a resumed job has the checkpoint's (Hugging Face: 5e-5)")
      ->capture_default_str()
      ->check(number_from_zero(true));
  add_choice(app, "--lr_scheduler_type", o.lr_scheduler_type, schedulers,
             "how the learning rate goes on after the warm-up (Hugging Face: linear)")
      ->default_str("constant");
  app.add_option("--warmup_steps", o.warmup_steps,
                 "steps over which the learning rate rises from 0; below 1: that share of all steps")
      ->capture_default_str()
      ->check(number_from_zero(true, kMostSteps));
  app.add_option("--weight_decay", o.weight_decay, "AdamW's, on every parameter (Hugging Face: 0)")
      ->capture_default_str()
      ->check(number_from_zero(true));
  app.add_option("--adam_beta1", o.adam_beta1, "AdamW's first beta")->capture_default_str()->check(adam_beta());
  app.add_option("--adam_beta2", o.adam_beta2, "AdamW's second beta")->capture_default_str()->check(adam_beta());
  app.add_option("--adam_epsilon", o.adam_epsilon, "AdamW's epsilon")
      ->capture_default_str()
      ->check(number_from_zero(false));
  app.add_option("--max_grad_norm", o.max_grad_norm,
                 "scale the averaged gradient down to this norm where it is larger; 0: never (Hugging Face: 1)")
      ->capture_default_str()
      ->check(number_from_zero(true));
  add_choice(app, "--on_nan", o.on_nan, answers,
             "a loss that is not a number: stop the job, skip steps whose gradient is not finite, or continue")
      ->default_str("stop");
  app.add_option("--seed", o.seed, "of the weights, dropout and the order of the images (Hugging Face: 42)")
      ->capture_default_str()
      ->check(whole_number());
  app.add_option("--data_seed", o.data_seed, "of the order of the images alone (default: seed)")->check(whole_number());
  add_choice(app, "--dropout", o.dropout, switches, "on or off")->default_str("on");
}

void add_report_flags(CLI::App& app, TrainOptions& o, OptionWords& words) {
  const std::map<std::string, bool> levels = {{"debug", true},  {"info", true},      {"warning", false},
                                              {"error", false}, {"critical", false}, {"passive", false}};
  const std::map<std::string, Progress> occasions = {
      {"auto", Progress::automatic}, {"always", Progress::always}, {"never", Progress::never}};
  const std::map<std::string, EvalStrategy> strategies = {
      {"no", EvalStrategy::no}, {"steps", EvalStrategy::steps}, {"epoch", EvalStrategy::epoch}};
  from_one(app.add_option("--logging_steps", o.logging_steps, "print the loss every so many steps (Hugging Face: 500)")
               ->capture_default_str());
  add_switch(app, "--logging_first_step", o.logging_first_step, "print the first step's loss, too");
  add_choice(app, "--eval_strategy", o.eval_strategy, strategies,
             "when to look at the test images; after the last step always (Hugging Face: never by itself)")
      ->default_str("no");
  from_one(app.add_option("--eval_steps", o.eval_steps,
                          "with --eval_strategy steps: every so many (default: logging_steps)"));
  add_choice(app, "--log_level_replica", o.replicas_speak, levels,
             "info or debug: every rank prints what rank 0 prints")
      ->default_str("warning");
  app.add_option("--loss_file", o.loss_file, "rank 0 writes every step's loss here, a line of JSON each")
      ->check(named_file());
  app.add_option("--report_to", words.report_to,
                 "what rank 0 writes beside what it prints: json (metrics.jsonl), tensorboard (event files in runs/), "
                 "both with a comma between, all or none")
      ->delimiter(',')
      ->check(CLI::IsMember({"none", "json", "tensorboard", "all"}).description(""))
      ->type_name("none|json|tensorboard|all")
      ->default_str("none");
  app.add_option("--logging_dir", o.logging_dir, "folder for what report_to writes (default: output_dir)")
      ->check(named_folder());
  add_choice(app, "--progress", o.progress, occasions,
             "one line that is drawn again at each step, instead of one every logging_steps; auto: when stdout is a "
             "terminal, which it is not under llmlaunch run")
      ->default_str("auto");
  add_switch(app, "--disable_tqdm", words.disable_tqdm, "Hugging Face's name of --progress never");
}

void add_checkpoint_flags(CLI::App& app, TrainOptions& o) {
  const std::map<std::string, SaveStrategy> strategies = {
      {"no", SaveStrategy::no}, {"steps", SaveStrategy::steps}, {"epoch", SaveStrategy::epoch}};
  const std::map<std::string, std::optional<Metric>> metrics = {{"loss", Metric::loss},
                                                                {"eval_loss", Metric::loss},
                                                                {"accuracy", Metric::accuracy},
                                                                {"eval_accuracy", Metric::accuracy}};
  const std::map<std::string, std::optional<bool>> answers = {
      {"true", true}, {"false", false}, {"True", true}, {"False", false}};
  app.add_option("--output_dir", o.output_dir,
                 "folder for checkpoints and reports; rank 0 writes and reads it (Hugging Face: trainer_output)")
      ->check(named_folder());
  add_choice(app, "--save_strategy", o.save_strategy, strategies,
             "when to write a checkpoint; also after the last step and at a SIGTERM (default: steps with --output_dir, "
             "else no; Hugging Face: steps)");
  from_one(
      app.add_option("--save_steps", o.save_steps, "with --save_strategy steps: every so many")->capture_default_str());
  from_one(app.add_option("--save_total_limit", o.save_total_limit,
                          "keep so many checkpoints, the newest and the best (default: all)"));
  app.add_option(
         "--resume_from_checkpoint", o.resume_from_checkpoint,
         "go on from this checkpoint; true: from the newest in output_dir, and from the start where there is none")
      ->check(CLI::Validator(
          [](const std::string& word) {
            return word.empty() ? std::string("needs the folder of a checkpoint, or true") : std::string();
          },
          ""));
  add_switch(app, "--load_best_model_at_end", o.load_best_model_at_end,
             "test the checkpoint with the best metric again at the end; it is never removed. Needs eval_strategy and "
             "save_strategy to be the same, and save_steps to be a multiple of eval_steps");
  add_choice(app, "--metric_for_best_model", o.metric_for_best_model, metrics,
             "which one is the best (default: with load_best_model_at_end loss)");
  add_choice(app, "--greater_is_better", o.greater_is_better, answers,
             "whether a greater metric is a better one (default: true for accuracy, false for loss)");
}

void add_device_flags(CLI::App& app, TrainOptions& o, OptionWords& words) {
  const std::map<std::string, DeviceChoice> devices = {
      {"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}};
  add_choice(app, "--device", o.device, devices, "auto takes a GPU where there is one")->default_str("auto");
  add_switch(app, "--use_cpu", words.use_cpu, "the same as --device cpu");
  app.add_option("--ddp_bucket_cap_mb", o.ddp_bucket_cap_mb, "gradient buckets after the first hold so many MiB")
      ->capture_default_str()
      ->check(number_from_zero(false, kMostBucketMib));
  app.add_option("--ddp_timeout", o.ddp_timeout, "seconds that one collective may take")
      ->capture_default_str()
      ->check(CLI::Range(std::uint32_t{1}, std::uint32_t{30 * 24 * 3600}));
  app.add_option("--threads", o.threads,
                 "compute threads of this rank (default: OMP_NUM_THREADS, else the host's cores shared by its ranks)")
      ->check(CLI::Range(std::uint32_t{1}, std::uint32_t{4096}));
}

void add_model_flags(CLI::App& app, TrainOptions& o, OptionWords& words) {
  std::map<std::string, std::string> names;
  for (const Model* model : all_models()) names[model->name] = model->name;
  add_choice(app, "--model", o.model, names, "the network that is trained")->default_str(all_models().front()->name);
  add_switch(
      app, "--bf16", words.bf16,
      "convolutions and matrix products of bfloat16 numbers, sums and weights in fp32 (default: as mixed_precision "
      "in the YAML)");
  add_switch(app, "--tf32", o.tf32, "the same of TF32 numbers, on a GPU from Ampere on");
  add_switch(app, "--fp16", words.fp16,
             "the same of half precision, as torch.autocast's, with torch.amp.GradScaler's scaled losses: a step whose "
             "gradient overflows changes no weight and no learning rate, and halves the scale, which begins at 65536; "
             "2000 good steps double it. On a CPU, where Hugging Face's Trainer refuses it, by rounding: slower than "
             "fp32");
  add_switch(app, "--cuda_graph", o.cuda_graph,
             "on a GPU, full batches' steps as one CUDA graph without the host between them, on images that lie in its "
             "memory; the same numbers. Off by default: it has not run on a GPU yet");
  app.add_option("--dataloader_num_workers", o.dataloader_num_workers,
                 "threads that fill batches ahead, the same ones in the same order; 0: the training thread does")
      ->capture_default_str()
      ->check(CLI::Range(std::uint32_t{0}, std::uint32_t{256}));
  app.add_option("--predict", o.predict,
                 "after the last step, rank 0 writes the test images' logits and labels here, a safetensors file")
      ->check(named_file());
}

constexpr const char* kFooter =
    R"(Hyphens and underscores in flags are the same. Alone it trains in one process; under llmlaunch run it is one
rank of many and finds the others through the environment.

FILE has the flags' names as keys, at its top or below one key train:, as YAML or as the JSON that Hugging Face's
TrainingArguments.to_json_string() writes. A name alone that ends in .json, .yaml or .yml is the same as --config.
Flags win over the file, and the file over the defaults. Every rank reads it, so that it has to be on every host.

exit status: 0 done, 64 wrong flag, 65 the loss is not a number, 66 data not found, 69 another rank, the rendezvous or the GPU is not available,
70 internal error, 71 no memory, 74 a file cannot be read or written (also a checkpoint, a report or stdout: training went on without it),
75 the job was ended by llmlaunch, or another one is at work in output_dir, 78 a wrong --config, damaged data or wrong environment, 128+n stopped by signal n)";

bool is_number(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.starts_with("UINT") || type.starts_with("INT") || type.starts_with("FLOAT");
}

}  // namespace

struct OptionTable::Parts {
  CLI::App app{"Trains a small network on images of digits, alone or as one rank of many.", "llmlaunch-train"};
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
  app.add_option("--config", words.config, "read settings from this file; see below")->type_name("FILE");
  add_data_flags(app, options);
  add_model_flags(app, options, words);
  add_length_flags(app, options);
  add_optimizer_flags(app, options);
  add_report_flags(app, options, words);
  add_checkpoint_flags(app, options);
  add_device_flags(app, options, words);
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    if (is_number(*option)) option->transform(decimal_digits());
  }
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
  for (auto word = arguments.rbegin(); word != arguments.rend(); ++word) words.push_back(with_underscores(*word));
  try {
    parts_->app.parse(words);
  } catch (const CLI::CallForHelp&) {
    typed.answer = parts_->app.help();
  } catch (const CLI::CallForVersion& e) {
    typed.answer = std::string(e.what()) + "\n";
  } catch (const CLI::ParseError& e) {
    return make_error(Errc::usage, e.what(), {}, "llmlaunch-train --help lists the flags");
  }
  typed.extras = parts_->app.remaining();
  return typed;
}

bool OptionTable::has(const std::string& name) const {
  return parts_->app.count("--" + name) > 0;
}

std::optional<OptionTable::Kind> OptionTable::kind_of(const std::string& name) const {
  const CLI::Option* option = parts_->setting(name);
  if (option == nullptr) return std::nullopt;
  if (option->get_delimiter() != '\0') return Kind::list;
  return is_number(*option) ? Kind::number : Kind::word;
}

Result<void> OptionTable::set(const std::string& name, std::span<const std::string> values) {
  const std::string flag = "--" + name;
  const std::string word = fmt::format("{}", fmt::join(values, ","));
  // An equals sign keeps "-1" from being a flag; an empty value has to be a word of its own.
  std::vector<std::string> words = {flag + "=" + word};
  if (word.empty()) words = {word, flag};
  try {
    parts_->app.parse(words);
  } catch (const CLI::Error& e) {
    std::string what = e.what();
    for (std::size_t at = what.find(flag); at != std::string::npos; at = what.find(flag)) what.erase(at, 2);
    return make_error(Errc::usage, what);
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

std::string nearest_name(std::span<const std::string> names, std::string_view typed) {
  std::string best;
  std::size_t least = typed.size() / 3 + 1;
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(typed, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace llmlaunch::trainer
