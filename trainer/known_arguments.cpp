// A table. Called for files of settings, and for flags that are not known.
#include "trainer/known_arguments.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "trainer/flag_values.hpp"

namespace llmlaunch::trainer {
namespace {

using Effect = KnownArgument::Effect;

constexpr std::string_view kSameInTests = "tests are calculated as bf16 and fp16 say for training, else in float32";
constexpr std::string_view kOneCopy = "the trainer keeps the whole model on every rank";
constexpr std::string_view kAdamW = "the trainer's optimizer is AdamW (adamw_torch)";
constexpr std::string_view kPerDevice = "write per_device_train_batch_size";

// What arguments are for, and what to do instead of typing them.
constexpr Topic kHubToken = {
    "uploads to the Hugging Face Hub",
    "leave it out, and keep tokens off command lines; upload the checkpoints in --output_dir when the job is done"};
constexpr Topic kHub = {"uploads to the Hugging Face Hub",
                        "upload the checkpoints in --output_dir when the job is done"};
constexpr Topic kSharding = {"models that are cut over ranks", "leave it out: every rank keeps the whole model"};
constexpr Topic kHalfLibrary = {"the library that does half precision",
                                "leave it out; --fp16 and --bf16 are done by the trainer itself"};
constexpr Topic kHalfEvaluation = {"evaluation in 16 bits",
                                   "leave it out; what --bf16 or --fp16 says counts for evaluation, too"};
constexpr Topic kCompilers = {"compilers and kernels of PyTorch's",
                              "leave it out: nothing here is Python; on a GPU see --cuda_graph"};
constexpr Topic kMemory = {"models that hardly fit into memory", "a smaller --per_device_train_batch_size needs less"};
constexpr Topic kOptimizers = {"other optimizers",
                               "leave it out: it is AdamW (adamw_torch), with --adam_beta1 and the like"};
constexpr Topic kSchedules = {"schedules with parameters of their own", "--lr_scheduler_type names the schedules here"};
constexpr Topic kBatch = {"the size of a batch", "write --per_device_train_batch_size"};
constexpr Topic kEvalBatch = {"the size of a batch", "write --per_device_eval_batch_size"};
constexpr Topic kDataset = {"the order and columns of a data set", "leave it out: the order is random, by --data_seed"};
constexpr Topic kLosses = {"other losses", "leave it out: the loss is that of the labels as they are"};
constexpr Topic kScript = {"what a script does", "leave it out; --eval_strategy and --predict ask for more"};
constexpr Topic kRunNames = {"the names of runs", "--logging_dir and --output_dir keep runs apart"};
constexpr Topic kLogLines = {
    "log lines", "--log_level_replica info has every rank print, --on_nan says what a loss that is no number does"};
constexpr Topic kOverwriting = {"a folder of an earlier job",
                                "name another --output_dir, or go on with --resume_from_checkpoint true"};
constexpr Topic kResuming = {"how a job goes on",
                             "leave it out: --resume_from_checkpoint goes on with the image that is next"};
constexpr Topic kDataLoader = {"PyTorch's DataLoader",
                               "leave it out; --dataloader_num_workers has threads fill batches ahead"};
constexpr Topic kDevices = {"PyTorch's devices and processes",
                            "leave it out; see --device, and llmlaunch run starts the ranks"};
constexpr Topic kCheckpoint = {"what a checkpoint holds", "leave it out: rank 0 writes all that a job needs to go on"};
constexpr Topic kDeterminism = {"equal runs",
                                "leave it out: runs with one --seed and as many ranks are equal bit by bit"};
constexpr Topic kEvaluation = {"how a test is made",
                               "leave it out: all test images are looked at, when --eval_strategy says"};
constexpr Topic kMetrics = {"metrics of a script's own", "leave it out: loss and accuracy are measured"};
constexpr Topic kTokens = {"numbers of tokens", "leave it out: the lines have samples per second"};
constexpr Topic kLanguageModels = {"language models",
                                   "leave it out: the networks here keep nothing from one batch for the next"};
constexpr Topic kMemoryMetrics = {"reports of memory", "leave it out: nothing is measured of memory"};

constexpr KnownArgument kKnown[] = {
    {"_n_gpu", kDevices, Effect::none, "*"},
    {"accelerator_config", kDevices},
    {"activation_checkpointing", kMemory},
    {"activation_checkpointing_kwargs", kMemory},
    {"adafactor", kOptimizers, Effect::numbers, "", kAdamW},
    {"auto_find_batch_size", kMemory, Effect::numbers, "", "write per_device_train_batch_size"},
    {"average_tokens_across_devices", kLosses, Effect::none, "true"},
    {"batch_eval_metrics", kEvaluation},
    {"bf16_full_eval", kHalfEvaluation, Effect::numbers, "", kSameInTests},
    {"dataloader_in_order", kDataLoader, Effect::none, "true", "", true},
    {"dataloader_multiprocessing_context", kDataLoader},
    {"dataloader_persistent_workers", kDataLoader},
    {"dataloader_pin_memory", kDataLoader, Effect::none, "true"},
    {"dataloader_prefetch_factor", kDataLoader},
    {"ddp_backend", kDevices},
    {"ddp_broadcast_buffers", kDevices},
    {"ddp_find_unused_parameters", kDevices},
    {"ddp_static_graph", kDevices},
    {"debug", kLogLines},
    {"deepspeed", kSharding, Effect::numbers, "", kOneCopy},
    {"dispatch_batches", kDataset},
    {"do_eval", kScript, Effect::none, "true"},  // Hugging Face's own consequence of eval_strategy
    {"do_predict", kScript},
    {"do_train", kScript},
    {"enable_jit_checkpoint", kCompilers, Effect::none, "true"},
    {"eval_accumulation_steps", kEvaluation},
    {"eval_delay", kEvaluation},
    {"eval_do_concat_batches", kEvaluation, Effect::none, "true"},
    {"eval_on_start", kEvaluation},
    {"eval_use_gather_object", kEvaluation},
    {"fp16_backend", kHalfLibrary, Effect::none, "auto"},
    {"fp16_full_eval", kHalfEvaluation, Effect::numbers, "", kSameInTests},
    {"fp16_opt_level", kHalfLibrary, Effect::none, "O1"},
    {"fsdp", kSharding, Effect::numbers, "", kOneCopy},
    {"fsdp_config", kSharding},
    {"fsdp_min_num_params", kSharding},
    {"fsdp_transformer_layer_cls_to_wrap", kSharding},
    {"full_determinism", kDeterminism, Effect::none, "true"},
    {"gradient_checkpointing", kMemory},
    {"gradient_checkpointing_kwargs", kMemory},
    {"group_by_length", kDataset, Effect::numbers, "", "the trainer's order is random"},
    {"half_precision_backend", kHalfLibrary, Effect::none, "auto"},
    {"hub_always_push", kHub},
    {"hub_model_id", kHub},
    {"hub_private_repo", kHub},
    {"hub_revision", kHub},
    {"hub_strategy", kHub, Effect::none, "every_save"},
    {"hub_token", kHubToken, Effect::none, "<HUB_TOKEN>"},
    {"ignore_data_skip", kResuming, Effect::numbers, "", "the trainer goes on with the image that is next"},
    {"include_for_metrics", kMetrics},
    {"include_inputs_for_metrics", kMetrics},
    {"include_num_input_tokens_seen", kTokens, Effect::none, "no"},
    {"include_tokens_per_second", kTokens},
    {"jit_mode_eval", kCompilers},
    {"label_names", kMetrics},
    {"label_smoothing_factor", kLosses, Effect::numbers, "", "the trainer's loss is that of the labels as they are"},
    {"length_column_name", kDataset, Effect::none, "length"},
    {"liger_kernel_config", kCompilers},
    {"local_rank", kDevices, Effect::none, "*"},
    {"log_level", kLogLines, Effect::none, "passive"},
    {"log_on_each_node", kLogLines, Effect::none, "true"},
    {"logging_nan_inf_filter", kLogLines, Effect::none, "true"},
    {"lr_scheduler_kwargs", kSchedules, Effect::numbers, "", "the trainer's schedules take none"},
    {"mp_parameters", kSharding},
    {"neftune_noise_alpha", kLosses, Effect::numbers, "", "the trainer's network has no embeddings"},
    {"optim", kOptimizers, Effect::numbers, "adamw_torch|adamw_torch_fused", kAdamW},
    {"optim_args", kOptimizers, Effect::numbers, "", kAdamW},
    {"optim_target_modules", kOptimizers, Effect::numbers, "", kAdamW},
    {"overwrite_output_dir", kOverwriting},
    {"parallelism_config", kSharding, Effect::numbers, "", kOneCopy},
    {"past_index", kLanguageModels, Effect::none, "-1"},
    {"per_gpu_eval_batch_size", kEvalBatch, Effect::numbers, "", "write per_device_eval_batch_size"},
    {"per_gpu_train_batch_size", kBatch, Effect::numbers, "", kPerDevice},
    {"prediction_loss_only", kEvaluation},
    {"project", kRunNames, Effect::none, "huggingface"},
    {"push_to_hub", kHub},
    {"push_to_hub_model_id", kHub},
    {"push_to_hub_organization", kHub},
    {"push_to_hub_token", kHubToken, Effect::none, "<PUSH_TO_HUB_TOKEN>"},
    {"ray_scope", kDevices, Effect::none, "last"},
    {"remove_unused_columns", kDataset, Effect::none, "true"},
    {"restore_callback_states_from_checkpoint", kCheckpoint},
    {"run_name", kRunNames},
    {"save_on_each_node", kCheckpoint},
    {"save_only_model", kCheckpoint},
    {"save_safetensors", kCheckpoint, Effect::none, "true", "", true},
    {"sharded_ddp", kSharding, Effect::numbers, "", kOneCopy},
    {"skip_memory_metrics", kMemoryMetrics, Effect::none, "true"},
    {"split_batches", kBatch, Effect::numbers, "", kPerDevice},
    {"torch_compile", kCompilers},
    {"torch_compile_backend", kCompilers},
    {"torch_compile_mode", kCompilers},
    {"torch_empty_cache_steps", kMemory},
    {"torchdynamo", kCompilers},
    {"tpu_metrics_debug", kDevices},
    {"tpu_num_cores", kDevices},
    {"trackio_bucket_id", kHub},
    {"trackio_space_id", kHub, Effect::none, "trackio"},
    {"trackio_static_space_id", kHub},
    {"train_sampling_strategy", kDataset, Effect::numbers, "random", "the trainer's order is random"},
    {"use_cache", kLanguageModels},
    {"use_ipex", kCompilers},
    {"use_legacy_prediction_loop", kEvaluation},
    {"use_liger_kernel", kCompilers},
    {"use_mps_device", kDevices},
    {"xpu_backend", kDevices},
};

static_assert(std::all_of(std::begin(kKnown), std::end(kKnown),
                          [](const KnownArgument& known) { return !known.topic.about.empty(); }));

constexpr Topic kNotTyped = {};

constexpr KnownArgument kAccelerator[] = {
    {"dispatch_batches"},
    {"even_batches", kNotTyped, Effect::numbers, "true",
     "the ranks' shares are made equal; --dataloader_drop_last leaves out the rest", true},
    {"gradient_accumulation_kwargs"},
    {"non_blocking", kNotTyped, Effect::none, "true"},
    {"num_steps", kNotTyped, Effect::numbers, "1", "write gradient_accumulation_steps"},
    {"split_batches", kNotTyped, Effect::numbers, "", kPerDevice},
    {"use_configured_state"},
    {"use_seedable_sampler", kNotTyped, Effect::none, "true", "", true},
};

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kOtherNames = {{
    {"evaluation_strategy", "eval_strategy"},
    {"no_cuda", "use_cpu"},
    {"warmup_ratio", "warmup_steps"},
}};

/// Words, and numbers as numbers: 0.00 is 0.
bool is_one_of(std::string_view text, std::string_view words) {
  const auto number = number_in(text);
  while (!words.empty()) {
    const std::size_t end = std::min(words.find('|'), words.size());
    const std::string_view word = words.substr(0, end);
    if (text == word || (number && number == number_in(word))) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

const KnownArgument* argument_in(std::span<const KnownArgument> table, std::string_view name) {
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const KnownArgument& known) { return known.name == name; });
  return found == table.end() ? nullptr : &*found;
}

}  // namespace

std::span<const KnownArgument> known_arguments() {
  return kKnown;
}

const KnownArgument* known_argument(std::string_view name) {
  return argument_in(kKnown, name);
}

const KnownArgument* known_accelerator_argument(std::string_view name) {
  return argument_in(kAccelerator, name);
}

std::string_view present_name(std::string_view name) {
  for (const auto& [other, present] : kOtherNames) {
    if (other == name) return present;
  }
  return {};
}

bool is_other_report(std::string_view word) {
  return is_one_of(word,
                   "azure_ml|clearml|codecarbon|comet_ml|dagshub|dvclive|flyte|kubeflow|mlflow|neptune|swanlab|trackio|"
                   "wandb");
}

bool asks_for_nothing(const KnownArgument& argument, std::string_view text) {
  const auto truth = truth_in(text);
  if (argument.harmless == "*" || text.empty() || is_one_of(text, argument.harmless)) return true;
  if (truth == true && is_one_of("true", argument.harmless)) return true;
  if (truth == false) return !argument.false_asks;
  return number_in(text) == 0;
}

}  // namespace llmlaunch::trainer
