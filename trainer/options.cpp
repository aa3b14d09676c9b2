// llmlaunch-train's flags: names, limits, help. The only file of the trainer that sees CLI11.
#include "trainer/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string_view>
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

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row[b.size()];
}

/// The flag that was probably meant, or nothing when none is near.
std::string nearest_flag(const CLI::App& app, std::string_view typed) {
  const std::string_view name = typed.substr(0, typed.find('='));
  std::string best;
  std::size_t least = name.size() / 3 + 1;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& known : option->get_lnames()) {
      const std::size_t distance = edit_distance(name, "--" + known);
      if (distance < least) {
        least = distance;
        best = "--" + known;
      }
    }
  }
  return best;
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

/// A switch as Hugging Face's: alone it means true, and true or false may follow.
CLI::Option* add_switch(CLI::App& app, const std::string& name, bool& value, const std::string& help) {
  const std::map<std::string, bool> truths = {{"true", true}, {"false", false}, {"True", true}, {"False", false}};
  return add_choice(app, name, value, truths, help)->expected(0, 1)->default_str("true")->option_text("[true|false]");
}

/// A number that is one, from 0, or above it.
CLI::Validator number_from_zero(bool zero_too) {
  return {[zero_too](const std::string& word) -> std::string {
            double value = 0;
            if (!CLI::detail::lexical_cast(word, value) || !std::isfinite(value)) return word + " is not a number";
            if (value > 0 || (zero_too && value == 0)) return {};
            return word + (zero_too ? " is below 0" : " is not above 0");
          },
          ""};
}

/// Digits only: a minus would be taken for a very large number.
CLI::Validator whole_number() {
  return {[](const std::string& word) {
            const bool digits = !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
            return digits ? std::string() : word + " is not a number from 0";
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

const CLI::Range& from_one() {
  static const CLI::Range range(std::uint32_t{1}, std::uint32_t{1'000'000'000});
  return range;
}

void add_data_flags(CLI::App& app, TrainOptions& o) {
  app.add_option(
      "--data_dir", o.data_dir,
      "folder with MNIST's IDX files, plain or .gz, or torchvision's root of it; without it digits are drawn");
  app.add_option("--train_samples", o.train_samples,
                 fmt::format("use only so many training images; how many to draw (default {})", kDrawnTrainSamples))
      ->check(from_one());
  app.add_option("--eval_samples", o.eval_samples,
                 fmt::format("use only so many test images; how many to draw (default {})", kDrawnEvalSamples))
      ->check(from_one());
  app.add_option("--export_dataset", o.export_dataset,
                 "write the images into this folder as MNIST's four IDX files, for other programs, and end")
      ->check(named_folder());
  app.add_option("--per_device_train_batch_size", o.per_device_train_batch_size,
                 "images per rank and batch (Hugging Face: 8)")
      ->capture_default_str()
      ->check(from_one());
  app.add_option("--per_device_eval_batch_size", o.per_device_eval_batch_size,
                 "images per rank at a time in evaluation (Hugging Face: 8)")
      ->capture_default_str()
      ->check(from_one());
  add_switch(app, "--dataloader_drop_last", o.dataloader_drop_last,
             "leave out what does not fill a batch or cannot be dealt evenly; else the last batch is smaller and the "
             "shares are filled up from the list's head");
}

void add_length_flags(CLI::App& app, TrainOptions& o) {
  app.add_option("--num_train_epochs", o.num_train_epochs, "passes over the training images (Hugging Face: 3)")
      ->capture_default_str()
      ->check(from_one());
  app.add_option("--max_steps", o.max_steps,
                 "stop after so many steps, whatever num_train_epochs says; -1: no such limit")
      ->capture_default_str();
  app.add_option("--gradient_accumulation_steps", o.gradient_accumulation_steps,
                 "batches per rank whose gradients make one step; an epoch's last step takes those that are left")
      ->capture_default_str()
      ->check(from_one());
}

void add_optimizer_flags(CLI::App& app, TrainOptions& o) {
  const std::map<std::string, SchedulerType> schedulers = {{"constant", SchedulerType::constant},
                                                           {"constant_with_warmup", SchedulerType::constant},
                                                           {"linear", SchedulerType::linear},
                                                           {"cosine", SchedulerType::cosine}};
  const std::map<std::string, bool> switches = {{"on", true}, {"off", false}};
  const std::map<std::string, OnNan> answers = {
      {"stop", OnNan::stop}, {"skip", OnNan::skip}, {"continue", OnNan::carry_on}};
  const auto share = CLI::Range(0.0, 1.0);
  app.add_option("--learning_rate", o.learning_rate, "AdamW's, at its highest (Hugging Face: 5e-5)")
      ->capture_default_str()
      ->check(number_from_zero(true));
  add_choice(app, "--lr_scheduler_type", o.lr_scheduler_type, schedulers,
             "how the learning rate goes on after the warm-up (Hugging Face: linear)")
      ->default_str("constant");
  app.add_option("--warmup_steps", o.warmup_steps,
                 "steps over which the learning rate rises from 0; below 1: that share of all steps")
      ->capture_default_str()
      ->check(number_from_zero(true));
  app.add_option("--weight_decay", o.weight_decay, "AdamW's, on every parameter (Hugging Face: 0)")
      ->capture_default_str()
      ->check(number_from_zero(true));
  app.add_option("--adam_beta1", o.adam_beta1, "AdamW's first beta")->capture_default_str()->check(share);
  app.add_option("--adam_beta2", o.adam_beta2, "AdamW's second beta")->capture_default_str()->check(share);
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

void add_report_flags(CLI::App& app, TrainOptions& o) {
  const std::map<std::string, bool> levels = {{"warning", false}, {"info", true}};
  const std::map<std::string, EvalStrategy> strategies = {
      {"no", EvalStrategy::no}, {"steps", EvalStrategy::steps}, {"epoch", EvalStrategy::epoch}};
  app.add_option("--logging_steps", o.logging_steps, "print the loss every so many steps (Hugging Face: 500)")
      ->capture_default_str()
      ->check(from_one());
  add_switch(app, "--logging_first_step", o.logging_first_step, "print the first step's loss, too");
  add_choice(app, "--eval_strategy", o.eval_strategy, strategies,
             "when to look at the test images; after the last step always (Hugging Face: never by itself)")
      ->default_str("no");
  app.add_option("--eval_steps", o.eval_steps, "with --eval_strategy steps: every so many (default: logging_steps)")
      ->check(from_one());
  add_choice(app, "--log_level_replica", o.replicas_speak, levels, "info: every rank prints what rank 0 prints")
      ->default_str("warning");
  app.add_option("--loss_file", o.loss_file, "rank 0 writes every step's loss here, a line of JSON each");
}

void add_checkpoint_flags(CLI::App& app, TrainOptions& o) {
  const std::map<std::string, SaveStrategy> strategies = {
      {"no", SaveStrategy::no}, {"steps", SaveStrategy::steps}, {"epoch", SaveStrategy::epoch}};
  app.add_option("--output_dir", o.output_dir, "folder for checkpoints; rank 0 writes and reads it")
      ->check(named_folder());
  add_choice(app, "--save_strategy", o.save_strategy, strategies,
             "when to write a checkpoint; also after the last step and at a SIGTERM (default: steps with --output_dir, "
             "else no)");
  app.add_option("--save_steps", o.save_steps, "with --save_strategy steps: every so many")
      ->capture_default_str()
      ->check(from_one());
  app.add_option("--save_total_limit", o.save_total_limit, "keep so many checkpoints, the newest (default: all)")
      ->check(from_one());
  app.add_option(
      "--resume_from_checkpoint", o.resume_from_checkpoint,
      "go on from this checkpoint; true: from the newest in output_dir, and from the start where there is none");
}

void add_device_flags(CLI::App& app, TrainOptions& o, bool& use_cpu) {
  const std::map<std::string, DeviceChoice> devices = {
      {"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}};
  add_choice(app, "--device", o.device, devices, "auto takes a GPU where there is one")->default_str("auto");
  app.add_flag("--use_cpu", use_cpu, "the same as --device cpu");
  app.add_option("--ddp_bucket_cap_mb", o.ddp_bucket_cap_mb, "gradient buckets after the first hold so many MiB")
      ->capture_default_str()
      ->check(number_from_zero(false));
  app.add_option("--ddp_timeout", o.ddp_timeout, "seconds that one collective may take")
      ->capture_default_str()
      ->check(CLI::Range(std::uint32_t{1}, std::uint32_t{30 * 24 * 3600}));
  app.add_option("--threads", o.threads,
                 "compute threads of this rank (default: OMP_NUM_THREADS, else the host's cores shared by its ranks)")
      ->check(CLI::Range(std::uint32_t{1}, std::uint32_t{4096}));
}

void add_model_flags(CLI::App& app, TrainOptions& o, bool& bf16, bool& fp16) {
  std::map<std::string, std::string> names;
  for (const Model* model : all_models()) names[model->name] = model->name;
  add_choice(app, "--model", o.model, names, "the network that is trained")->default_str(all_models().front()->name);
  add_switch(
      app, "--bf16", bf16,
      "convolutions and matrix products of bfloat16 numbers, sums and weights in fp32 (default: as mixed_precision "
      "in the YAML)");
  add_switch(app, "--tf32", o.tf32, "the same of TF32 numbers, on a GPU from Ampere on");
  add_switch(app, "--fp16", fp16, "refused: half precision needs its losses scaled; --bf16 does not");
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

/// What CLI11 cannot see: flags against each other.
Result<void> check_together(const TrainOptions& options, bool use_cpu, bool save_steps_typed) {
  if (options.max_steps == 0 || options.max_steps < -1) {
    return make_error(Errc::usage, fmt::format("--max_steps: {} is neither -1 nor above 0", options.max_steps));
  }
  if (options.warmup_steps >= 1 && options.warmup_steps != std::floor(options.warmup_steps)) {
    return make_error(Errc::usage,
                      fmt::format("--warmup_steps: {} is neither a number of steps nor, below 1, a share of them",
                                  options.warmup_steps));
  }
  if (options.eval_steps > 0 && options.eval_strategy != EvalStrategy::steps) {
    return make_error(Errc::usage, "--eval_steps needs --eval_strategy steps");
  }
  if (save_steps_typed && options.save_strategy != SaveStrategy::steps) {
    return make_error(Errc::usage, "--save_steps needs --output_dir and --save_strategy steps");
  }
  if (options.output_dir.empty()) {
    const bool saves = options.save_strategy != SaveStrategy::no;
    if (saves || options.resume_from_checkpoint == kLastCheckpoint) {
      return make_error(Errc::usage, fmt::format("{} needs --output_dir",
                                                 saves ? "--save_strategy" : "--resume_from_checkpoint true"));
    }
  }
  if (options.cuda_graph) {
    const std::string_view other = options.gradient_accumulation_steps > 1 ? "--gradient_accumulation_steps above 1"
                                   : options.max_grad_norm > 0             ? "--max_grad_norm above 0"
                                   : options.on_nan == OnNan::skip         ? "--on_nan skip"
                                                                           : "";
    if (!other.empty()) {
      return make_error(Errc::usage, fmt::format("--cuda_graph and {} do not go together", other), {},
                        "leave one of them out");
    }
  }
  if (use_cpu && options.device == DeviceChoice::cuda) {
    return make_error(Errc::usage, "--use_cpu and --device cuda contradict each other");
  }
  return ok;
}

constexpr const char* kFooter =
    R"(Hyphens and underscores in flags are the same. Alone it trains in one process; under llmlaunch run it is one
rank of many and finds the others through the environment.

exit status: 0 done, 64 wrong flag, 65 the loss is not a number, 66 data not found, 69 another rank, the rendezvous or the GPU is not available,
70 internal error, 71 no memory, 74 a file cannot be read or written (also a checkpoint: training went on without it), 75 the job was
ended by llmlaunch, 78 damaged data or wrong environment, 128+n stopped by signal n)";

}  // namespace

Result<ParsedOptions> parse_options(std::span<const std::string> arguments) {
  ParsedOptions parsed;
  bool use_cpu = false;
  bool bf16 = false;
  bool fp16 = false;
  CLI::App app("Trains a small network on images of digits, alone or as one rank of many.", "llmlaunch-train");
  app.formatter(std::make_shared<HelpLayout>());
  app.footer(kFooter);
  app.set_version_flag("--version", "llmlaunch-train " LLMLAUNCH_VERSION);
  app.allow_extras();
  add_data_flags(app, parsed.options);
  add_model_flags(app, parsed.options, bf16, fp16);
  add_length_flags(app, parsed.options);
  add_optimizer_flags(app, parsed.options);
  add_report_flags(app, parsed.options);
  add_checkpoint_flags(app, parsed.options);
  add_device_flags(app, parsed.options, use_cpu);

  std::vector<std::string> words;
  // CLI11 takes them from the back.
  for (auto word = arguments.rbegin(); word != arguments.rend(); ++word) words.push_back(with_underscores(*word));
  try {
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    parsed.answer = app.help();
    return parsed;
  } catch (const CLI::CallForVersion& e) {
    parsed.answer = std::string(e.what()) + "\n";
    return parsed;
  } catch (const CLI::ParseError& e) {
    return make_error(Errc::usage, e.what(), {}, "llmlaunch-train --help lists the flags");
  }
  if (const auto extras = app.remaining(); !extras.empty()) {
    if (extras.front().starts_with("--warmup_ratio")) {
      return make_error(Errc::usage, fmt::format("unknown argument '{}'", extras.front()), {},
                        "--warmup_steps below 1 is that share of all steps");
    }
    const std::string meant = nearest_flag(app, extras.front());
    return make_error(
        Errc::usage, fmt::format("unknown argument '{}'", extras.front()), {},
        meant.empty() ? "llmlaunch-train --help lists the flags" : fmt::format("did you mean {}?", meant));
  }
  if (app.count("--save_strategy") == 0 && !parsed.options.output_dir.empty()) {
    parsed.options.save_strategy = SaveStrategy::steps;
  }
  std::string& resume = parsed.options.resume_from_checkpoint;
  if (resume == "True") resume = kLastCheckpoint;
  if (resume == "false" || resume == "False") resume.clear();
  if (auto good = check_together(parsed.options, use_cpu, app.count("--save_steps") > 0); !good) return good.error();
  if (app.count("--bf16") > 0) parsed.options.bf16 = bf16;
  if (fp16) {
    return make_error(Errc::usage, "--fp16: half precision is not done here, on a CPU as little as on a GPU", {},
                      "--bf16 trains with as few bits and needs no scaling of the loss");
  }
  if (use_cpu) parsed.options.device = DeviceChoice::cpu;
  return parsed;
}

}  // namespace llmlaunch::trainer
