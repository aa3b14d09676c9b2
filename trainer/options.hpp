/// \file
/// What was typed on llmlaunch-train's command line, or stands in the file that it names. train.hpp says what it means.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/precision.hpp"
#include "trainer/schedule.hpp"

namespace llmlaunch::trainer {

enum class DeviceChoice { automatic, cpu, cuda };

/// When a loss is printed and recorded; when the test images are looked at, besides after the last step. Hugging Face's
/// name and words.
enum class IntervalStrategy { no, steps, epoch };

/// When a checkpoint is written.
enum class SaveStrategy {
  no,
  steps,
  epoch,
  best,  ///< after a test that is the best so far
};

/// What a loss or gradient that is not a number does.
enum class OnNan {
  stop,      ///< the job ends before any weight changes
  skip,      ///< the step changes no weight
  carry_on,  ///< nothing
};

/// What the best model is the best by.
enum class Metric { loss, accuracy };

/// When the line of the last step is drawn again in its place, instead of a new one every logging_steps.
enum class Progress { automatic, always, never };

/// Flags carry the names of Hugging Face's TrainingArguments where it has one; defaults are the example's.
struct TrainOptions {
  std::string export_dataset;       ///< a folder: write the images there as MNIST's files, and do not train
  std::string data_dir;             ///< MNIST-format files; empty: digits that the trainer draws
  std::string data_split;           ///< EMNIST's, where its folder has several; empty: the one that is there
  std::uint64_t train_samples = 0;  ///< 0: all of the files, or kDrawnTrainSamples
  std::uint64_t eval_samples = 0;   ///< 0: all of the files, or kDrawnEvalSamples
  std::uint32_t per_device_train_batch_size = 64;
  std::uint32_t per_device_eval_batch_size = 1000;
  double num_train_epochs = 1;
  std::int64_t max_steps = -1;                    ///< above 0: so many steps, whatever num_train_epochs says
  std::uint32_t gradient_accumulation_steps = 1;  ///< batches that make one step
  bool dataloader_drop_last = false;  ///< no batch that is not full, no image twice to make the ranks' shares equal
  double learning_rate = 1e-3;
  SchedulerType lr_scheduler_type = SchedulerType::constant_with_warmup;
  double warmup_steps = 0;  ///< below 1: that share of all steps
  double weight_decay = 1e-2;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 0;  ///< 0: gradients are not clipped
  OnNan on_nan = OnNan::stop;
  std::uint64_t seed = 0;
  std::optional<std::uint64_t> data_seed;  ///< of the order of the images; without it, `seed`
  bool dropout = true;
  IntervalStrategy logging_strategy = IntervalStrategy::steps;
  double logging_steps = 10;  ///< below 1, as the next two: that share of all steps
  bool logging_first_step = false;
  IntervalStrategy eval_strategy = IntervalStrategy::no;
  double eval_steps = 0;        ///< 0: as logging_steps
  bool replicas_speak = false;  ///< --log_level_replica info: every rank tells the story, not only rank 0
  DeviceChoice device = DeviceChoice::automatic;
  std::string output_dir;  ///< where checkpoints go
  SaveStrategy save_strategy = SaveStrategy::no;
  double save_steps = 500;             ///< 0: only the last step is saved
  std::uint32_t save_total_limit = 0;  ///< 0: all stay
  std::string resume_from_checkpoint;  ///< a folder, or kLastCheckpoint; empty: start anew
  bool load_best_model_at_end = false;
  std::optional<Metric> metric_for_best_model;  ///< none: which one is the best is not asked
  std::optional<bool> greater_is_better;        ///< none: as the metric says
  bool report_json = false;                     ///< metrics.jsonl
  bool report_tensorboard = false;              ///< event files
  std::string logging_dir;                      ///< where reports go; empty: output_dir
  Progress progress = Progress::automatic;
  std::string loss_file;                     ///< rank 0 writes {"step": 1, "loss": …} lines here
  std::optional<double> ddp_bucket_cap_mb;   ///< none: as PyTorch's DDP, to which it is no cap of 25
  std::uint32_t ddp_timeout = 1800;          ///< seconds for one collective
  std::string model = "basicnet";            ///< one of model.hpp's
  Precision precision = Precision::fp32;     ///< of --bf16, --fp16, --tf32, or what mixed_precision asks for
  bool tf32 = false;                         ///< --tf32, also beside narrower numbers, where it changes none
  bool cuda_graph = false;                   ///< steps that the device takes by itself (resident.hpp)
  std::uint32_t dataloader_num_workers = 0;  ///< threads that fill batches ahead; 0: the training thread does
  std::string predict;                       ///< rank 0 writes the test images' logits here at the end
  std::uint32_t threads = 0;                 ///< 0: OMP_NUM_THREADS, else this host's cores shared by its ranks
  std::vector<std::string> notes;            ///< what rank 0 says before it begins: keys of the file that were left out
};

/// --resume_from_checkpoint true: the newest one of output_dir.
inline constexpr const char* kLastCheckpoint = "true";

/// Threads of one rank.
inline constexpr std::uint32_t kMostThreads = 4096;

inline constexpr std::uint64_t kDrawnTrainSamples = 12'000;
inline constexpr std::uint64_t kDrawnEvalSamples = 2'000;

/// What the command line asks for.
struct ParsedOptions {
  TrainOptions options;
  std::string answer;  ///< text for stdout instead of a run: --help, --version
};

/// "~" and "~/runs" as a shell has them, in every path: it does not where it reads --output_dir=~/runs, and a file of
/// settings has no shell. `Errc::invalid_config` for such a path where `home` is empty: a folder with that name would
/// be the way to lose the real one.
Result<void> expand_home(TrainOptions& options, const std::string& home);

/// Texts of variables by the options that they stand for: "learning_rate" (variable_settings.hpp).
using VariableSettings = std::map<std::string, std::string>;

/// The text of the file of settings; the error names it.
using ReadText = std::function<Result<std::string>(const std::string& path)>;

/// `arguments` without the program's name. Hyphens and underscores in flags are the same. `Errc::usage` names the flag
/// and its value, and the flag that was probably meant; `Errc::invalid_config` the same of a file that --config names,
/// which is read by `read`, with its place, or of one of `variables`. Flags win over these, and these over the file.
/// `mixed_precision` is accelerate's, as its launcher
/// leaves it in the environment (env::kMixedPrecision): it counts where neither --bf16 nor --fp16 is said.
Result<ParsedOptions> parse_options(std::span<const std::string> arguments, const ReadText& read,
                                    const std::string& mixed_precision = {}, const VariableSettings& variables = {});

}  // namespace llmlaunch::trainer
