// A table. Called for files of settings.
#include "trainer/known_arguments.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "trainer/flag_values.hpp"

namespace llmlaunch::trainer {
namespace {

using Effect = KnownArgument::Effect;

constexpr std::string_view kFloat32 = "the trainer calculates in float32";
constexpr std::string_view kOneCopy = "the trainer keeps the whole model on every rank";
constexpr std::string_view kAdamW = "the trainer's optimizer is AdamW (adamw_torch)";
constexpr std::string_view kPerDevice = "write per_device_train_batch_size";

constexpr KnownArgument kKnown[] = {
    {"_n_gpu", Effect::none, "*"},
    {"accelerator_config"},
    {"activation_checkpointing"},
    {"activation_checkpointing_kwargs"},
    {"adafactor", Effect::numbers, "", kAdamW},
    {"auto_find_batch_size", Effect::numbers, "", "write per_device_train_batch_size"},
    {"average_tokens_across_devices", Effect::none, "true"},
    {"batch_eval_metrics"},
    {"bf16_full_eval", Effect::numbers, "", kFloat32},
    {"dataloader_in_order", Effect::none, "true", "", true},
    {"dataloader_multiprocessing_context"},
    {"dataloader_persistent_workers"},
    {"dataloader_pin_memory", Effect::none, "true"},
    {"dataloader_prefetch_factor"},
    {"ddp_backend"},
    {"ddp_broadcast_buffers"},
    {"ddp_find_unused_parameters"},
    {"ddp_static_graph"},
    {"debug"},
    {"deepspeed", Effect::numbers, "", kOneCopy},
    {"dispatch_batches"},
    {"do_eval"},
    {"do_predict"},
    {"do_train"},
    {"enable_jit_checkpoint", Effect::none, "true"},
    {"eval_accumulation_steps"},
    {"eval_delay"},
    {"eval_do_concat_batches", Effect::none, "true"},
    {"eval_on_start"},
    {"eval_use_gather_object"},
    {"fp16_backend", Effect::none, "auto"},
    {"fp16_full_eval", Effect::numbers, "", kFloat32},
    {"fp16_opt_level", Effect::none, "O1"},
    {"fsdp", Effect::numbers, "", kOneCopy},
    {"fsdp_config"},
    {"fsdp_min_num_params"},
    {"fsdp_transformer_layer_cls_to_wrap"},
    {"full_determinism", Effect::none, "true"},
    {"gradient_checkpointing"},
    {"gradient_checkpointing_kwargs"},
    {"group_by_length", Effect::numbers, "", "the trainer's order is random"},
    {"half_precision_backend", Effect::none, "auto"},
    {"hub_always_push"},
    {"hub_model_id"},
    {"hub_private_repo"},
    {"hub_revision"},
    {"hub_strategy", Effect::none, "every_save"},
    {"hub_token", Effect::none, "<HUB_TOKEN>"},
    {"ignore_data_skip", Effect::numbers, "", "the trainer goes on with the image that is next"},
    {"include_for_metrics"},
    {"include_inputs_for_metrics"},
    {"include_num_input_tokens_seen", Effect::none, "no"},
    {"include_tokens_per_second"},
    {"jit_mode_eval"},
    {"label_names"},
    {"label_smoothing_factor", Effect::numbers, "", "the trainer's loss is that of the labels as they are"},
    {"length_column_name", Effect::none, "length"},
    {"liger_kernel_config"},
    {"local_rank", Effect::none, "*"},
    {"log_level", Effect::none, "passive"},
    {"log_on_each_node", Effect::none, "true"},
    {"logging_nan_inf_filter", Effect::none, "true"},
    {"lr_scheduler_kwargs", Effect::numbers, "", "the trainer's schedules take none"},
    {"mp_parameters"},
    {"neftune_noise_alpha", Effect::numbers, "", "the trainer's network has no embeddings"},
    {"optim", Effect::numbers, "adamw_torch|adamw_torch_fused", kAdamW},
    {"optim_args", Effect::numbers, "", kAdamW},
    {"optim_target_modules", Effect::numbers, "", kAdamW},
    {"overwrite_output_dir"},
    {"parallelism_config", Effect::numbers, "", kOneCopy},
    {"past_index", Effect::none, "-1"},
    {"per_gpu_eval_batch_size", Effect::numbers, "", "write per_device_eval_batch_size"},
    {"per_gpu_train_batch_size", Effect::numbers, "", kPerDevice},
    {"prediction_loss_only"},
    {"project", Effect::none, "huggingface"},
    {"push_to_hub"},
    {"push_to_hub_model_id"},
    {"push_to_hub_organization"},
    {"push_to_hub_token", Effect::none, "<PUSH_TO_HUB_TOKEN>"},
    {"ray_scope", Effect::none, "last"},
    {"remove_unused_columns", Effect::none, "true"},
    {"restore_callback_states_from_checkpoint"},
    {"run_name"},
    {"save_on_each_node"},
    {"save_only_model"},
    {"save_safetensors", Effect::none, "true", "", true},
    {"sharded_ddp", Effect::numbers, "", kOneCopy},
    {"skip_memory_metrics", Effect::none, "true"},
    {"split_batches", Effect::numbers, "", kPerDevice},
    {"torch_compile"},
    {"torch_compile_backend"},
    {"torch_compile_mode"},
    {"torch_empty_cache_steps"},
    {"torchdynamo"},
    {"tpu_metrics_debug"},
    {"tpu_num_cores"},
    {"trackio_bucket_id"},
    {"trackio_space_id", Effect::none, "trackio"},
    {"trackio_static_space_id"},
    {"train_sampling_strategy", Effect::numbers, "random", "the trainer's order is random"},
    {"use_cache"},
    {"use_ipex"},
    {"use_legacy_prediction_loop"},
    {"use_liger_kernel"},
    {"use_mps_device"},
    {"xpu_backend"},
};

constexpr KnownArgument kAccelerator[] = {
    {"dispatch_batches"},
    {"even_batches", Effect::numbers, "true",
     "the ranks' shares are made equal; --dataloader_drop_last leaves out the rest", true},
    {"gradient_accumulation_kwargs"},
    {"non_blocking", Effect::none, "true"},
    {"num_steps", Effect::numbers, "1", "write gradient_accumulation_steps"},
    {"split_batches", Effect::numbers, "", kPerDevice},
    {"use_configured_state"},
    {"use_seedable_sampler", Effect::none, "true", "", true},
};

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kOtherNames = {{
    {"evaluation_strategy", "eval_strategy"},
    {"no_cuda", "use_cpu"},
    {"warmup_ratio", "warmup_steps"},
}};

constexpr const char* kLeaveOut = "leave it out";

struct Subject {
  std::string_view names;
  Topic topic;
};

constexpr Subject kSubjects[] = {
    {"hub_token|push_to_hub_token",
     {"uploads to the Hugging Face Hub",
      "leave it out, and keep tokens off command lines; upload the checkpoints in --output_dir when the job is done"}},
    {"hub_always_push|hub_model_id|hub_private_repo|hub_revision|hub_strategy|push_to_hub|push_to_hub_model_id|"
     "push_to_hub_organization|trackio_bucket_id|trackio_space_id|trackio_static_space_id",
     {"uploads to the Hugging Face Hub", "upload the checkpoints in --output_dir when the job is done"}},
    {"deepspeed|fsdp|fsdp_config|fsdp_min_num_params|fsdp_transformer_layer_cls_to_wrap|mp_parameters|"
     "parallelism_config|sharded_ddp",
     {"models that are cut over ranks", "leave it out: every rank keeps the whole model"}},
    {"fp16_backend|fp16_opt_level|half_precision_backend",
     {"the library that does half precision", "leave it out; --fp16 and --bf16 are done by the trainer itself"}},
    {"bf16_full_eval|fp16_full_eval",
     {"evaluation in 16 bits", "leave it out; what --bf16 says counts for evaluation, too"}},
    {"enable_jit_checkpoint|jit_mode_eval|torch_compile|torch_compile_backend|torch_compile_mode|torchdynamo|use_ipex|"
     "use_liger_kernel|liger_kernel_config",
     {"compilers and kernels of PyTorch's", "leave it out: nothing here is Python; on a GPU see --cuda_graph"}},
    {"activation_checkpointing|activation_checkpointing_kwargs|gradient_checkpointing|gradient_checkpointing_kwargs|"
     "auto_find_batch_size|torch_empty_cache_steps",
     {"models that hardly fit into memory", "a smaller --per_device_train_batch_size needs less"}},
    {"adafactor|optim|optim_args|optim_target_modules",
     {"other optimizers", "leave it out: it is AdamW (adamw_torch), with --adam_beta1 and the like"}},
    {"lr_scheduler_kwargs", {"schedules with parameters of their own", "--lr_scheduler_type names the schedules here"}},
    {"per_gpu_train_batch_size|split_batches", {"the size of a batch", "write --per_device_train_batch_size"}},
    {"per_gpu_eval_batch_size", {"the size of a batch", "write --per_device_eval_batch_size"}},
    {"group_by_length|length_column_name|train_sampling_strategy|dispatch_batches|remove_unused_columns",
     {"the order and columns of a data set", "leave it out: the order is random, by --data_seed"}},
    {"label_smoothing_factor|neftune_noise_alpha|average_tokens_across_devices",
     {"other losses", "leave it out: the loss is that of the labels as they are"}},
    {"do_eval|do_predict|do_train", {"what a script does", "leave it out; --eval_strategy and --predict ask for more"}},
    {"run_name|project", {"the names of runs", "--logging_dir and --output_dir keep runs apart"}},
    {"log_level|log_on_each_node|debug|logging_nan_inf_filter",
     {"log lines", "--log_level_replica info has every rank print, --on_nan says what a loss that is no number does"}},
    {"overwrite_output_dir",
     {"a folder of an earlier job", "name another --output_dir, or go on with --resume_from_checkpoint true"}},
    {"ignore_data_skip",
     {"how a job goes on", "leave it out: --resume_from_checkpoint goes on with the image that is next"}},
    {"dataloader_in_order|dataloader_multiprocessing_context|dataloader_persistent_workers|dataloader_pin_memory|"
     "dataloader_prefetch_factor",
     {"PyTorch's DataLoader", "leave it out; --dataloader_num_workers has threads fill batches ahead"}},
    {"_n_gpu|accelerator_config|ddp_backend|ddp_broadcast_buffers|ddp_find_unused_parameters|ddp_static_graph|"
     "local_rank|ray_scope|tpu_metrics_debug|tpu_num_cores|use_mps_device|xpu_backend",
     {"PyTorch's devices and processes", "leave it out; see --device, and llmlaunch run starts the ranks"}},
    {"restore_callback_states_from_checkpoint|save_on_each_node|save_only_model|save_safetensors",
     {"what a checkpoint holds", "leave it out: rank 0 writes all that a job needs to go on"}},
    {"full_determinism", {"equal runs", "leave it out: runs with one --seed and as many ranks are equal bit by bit"}},
};

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

Topic topic_of(const KnownArgument& argument) {
  for (const Subject& subject : kSubjects) {
    if (is_one_of(argument.name, subject.names)) return subject.topic;
  }
  return {"evaluation and models that are not here", kLeaveOut};
}

std::string_view present_name(std::string_view name) {
  for (const auto& [other, present] : kOtherNames) {
    if (other == name) return present;
  }
  return {};
}

bool is_other_report(std::string_view word) {
  return is_one_of(word,
                   "azure_ml|clearml|codecarbon|comet_ml|dagshub|dvclive|flyte|mlflow|neptune|swanlab|trackio|wandb");
}

bool asks_for_nothing(const KnownArgument& argument, std::string_view text) {
  const auto truth = truth_in(text);
  if (argument.harmless == "*" || text.empty() || is_one_of(text, argument.harmless)) return true;
  if (truth == true && is_one_of("true", argument.harmless)) return true;
  if (truth == false) return !argument.false_asks;
  return number_in(text) == 0;
}

}  // namespace llmlaunch::trainer
