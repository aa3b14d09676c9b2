// The rows: what accelerate's sections may say, and where a worker looks for it. A new key of accelerate begins and,
// where it only becomes a variable, ends here.
#include "launcher/accelerate_settings.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <string>

namespace llmlaunch::launcher {
namespace {

using Kind = SettingKind;
using SettingRow = AccelerateSetting;
using Shape = ValueShape;

constexpr std::uint64_t kMostNumber = 2'147'483'647;
constexpr std::uint64_t kMostParameters = 1'000'000'000'000'000;

constexpr SettingRow text(std::string_view path, std::string_view meaning, std::string_view variable,
                          Shape shape = Shape::plain) {
  return {{path, Kind::text, meaning}, variable, Spelling::as_written, false, shape};
}
constexpr SettingRow text_or(std::string_view path, std::string_view meaning, std::string_view variable,
                             std::string_view otherwise, Shape shape = Shape::plain) {
  return {{path, Kind::text, meaning, otherwise}, variable, Spelling::as_written, true, shape};
}
constexpr SettingRow count(std::string_view path, std::string_view meaning, std::string_view variable,
                           std::uint64_t least, std::uint64_t most = kMostNumber) {
  return {{path, Kind::integer, meaning, "", "", least, most}, variable};
}
constexpr SettingRow count_or(std::string_view path, std::string_view meaning, std::string_view variable,
                              std::string_view otherwise, std::uint64_t least, std::uint64_t most = kMostNumber) {
  return {{path, Kind::integer, meaning, otherwise, "", least, most}, variable, Spelling::as_written, true};
}
constexpr SettingRow flag(std::string_view path, std::string_view meaning, std::string_view variable,
                          Spelling spelling = Spelling::python) {
  return {{path, Kind::boolean, meaning}, variable, spelling};
}
constexpr SettingRow flag_or(std::string_view path, std::string_view meaning, std::string_view variable,
                             std::string_view otherwise, Spelling spelling = Spelling::python) {
  return {{path, Kind::boolean, meaning, otherwise}, variable, spelling, true};
}
constexpr SettingRow choice(std::string_view path, std::string_view meaning, std::string_view variable,
                            std::string_view words) {
  return {{path, Kind::choice, meaning, "", words}, variable};
}
constexpr SettingRow choice_or(std::string_view path, std::string_view meaning, std::string_view variable,
                               std::string_view otherwise, std::string_view words) {
  return {{path, Kind::choice, meaning, otherwise, words}, variable, Spelling::as_written, true};
}

constexpr auto kRows = std::to_array<SettingRow>({
    choice("fp8_config.fp8_backend", "who computes in 8 bits", "ACCELERATE_FP8_BACKEND", "AO TE MSAMP"),
    flag_or("fp8_config.fp8_use_autocast_during_eval", "8 bits while evaluating, too (TE)",
            "ACCELERATE_FP8_USE_AUTOCAST_DURING_EVAL", "false"),
    count_or("fp8_config.fp8_margin", "margin of the scaling factor (TE)", "ACCELERATE_FP8_MARGIN", "0", 0),
    count_or("fp8_config.fp8_interval", "steps between scaling factors (TE)", "ACCELERATE_FP8_INTERVAL", "1", 1),
    choice_or("fp8_config.fp8_format", "number format (TE)", "ACCELERATE_FP8_FORMAT", "HYBRID", "HYBRID E4M3 E5M2"),
    count_or("fp8_config.fp8_amax_history_len", "length of the history of maxima (TE)",
             "ACCELERATE_FP8_AMAX_HISTORY_LEN", "1024", 1),
    choice_or("fp8_config.fp8_amax_compute_algo", "which maximum of the history counts (TE)",
              "ACCELERATE_FP8_AMAX_COMPUTE_ALGO", "most_recent", "most_recent max"),
    {{"fp8_config.fp8_override_linear_precision", Kind::texts,
      "three flags: fprop, dgrad and wgrad in higher precision (TE)", "false,false,false"},
     "ACCELERATE_FP8_OVERRIDE_FPROP",
     Spelling::python,
     true,
     Shape::three_flags},
    flag("fp8_config.fp8_use_mxfp8_block_scaling", "MXFP8 block scaling (TE)",
         "ACCELERATE_FP8_USE_MXFP8_BLOCK_SCALING"),
    choice_or("fp8_config.fp8_opt_level", "level of optimization (MSAMP)", "ACCELERATE_FP8_OPT_LEVEL", "O2", "O1 O2"),
    flag_or("fp8_config.fp8_enable_fsdp_float8_all_gather", "FSDP gathers in 8 bits (AO)",
            "ACCELERATE_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER", "true"),
    flag_or("fp8_config.fp8_pad_inner_dim", "inner dimensions are padded to 16 (AO)", "ACCELERATE_FP8_PAD_INNER_DIM",
            "true"),

    text("deepspeed_config.deepspeed_config_file", "DeepSpeed's own JSON, on each host",
         "ACCELERATE_DEEPSPEED_CONFIG_FILE"),
    count("deepspeed_config.zero_stage", "stage of ZeRO", "ACCELERATE_DEEPSPEED_ZERO_STAGE", 0, 3),
    choice("deepspeed_config.offload_optimizer_device", "where the optimizer's state is kept",
           "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none cpu nvme"),
    choice("deepspeed_config.offload_param_device", "where parameters are kept",
           "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none cpu nvme"),
    text("deepspeed_config.offload_optimizer_nvme_path", "directory for it on NVMe",
         "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_NVME_PATH"),
    text("deepspeed_config.offload_param_nvme_path", "directory for them on NVMe",
         "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH"),
    text("deepspeed_config.gradient_accumulation_steps", "batches for each step of the optimizer, or auto",
         "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", Shape::count_or_auto),
    {{"deepspeed_config.gradient_clipping", Kind::text, "largest norm of the gradient, or auto"},
     "ACCELERATE_GRADIENT_CLIPPING",
     Spelling::lower,
     false,
     Shape::number_or_auto},
    flag("deepspeed_config.zero3_init_flag", "models are made in pieces (stage 3)", "ACCELERATE_DEEPSPEED_ZERO3_INIT",
         Spelling::lower),
    flag("deepspeed_config.zero3_save_16bit_model", "saved weights have 16 bits (stage 3)",
         "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", Spelling::lower),
    text("deepspeed_config.deepspeed_moe_layer_cls_names", "classes of mixture-of-experts layers",
         "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES"),
    choice("deepspeed_config.deepspeed_multinode_launcher", "no effect: llmlaunch starts the ranks on all hosts", "",
           "pdsh standard openmpi mvapich mpich nossh slurm"),
    text("deepspeed_config.deepspeed_hostfile", "hosts and slots where llmlaunch.hosts and the command line have none",
         ""),
    text("deepspeed_config.deepspeed_exclusion_filter", "hosts and slots to leave out: gpu01@gpu02:0,1", ""),
    text("deepspeed_config.deepspeed_inclusion_filter", "hosts and slots to take: gpu01@gpu02:0,1", ""),

    count_or("fsdp_config.fsdp_version", "version of FSDP", "FSDP_VERSION", "1", 1, 2),
    text_or("fsdp_config.fsdp_sharding_strategy", "what is sharded (version 1)", "FSDP_SHARDING_STRATEGY", "FULL_SHARD",
            Shape::strategy),
    {{"fsdp_config.fsdp_reshard_after_forward", Kind::text,
      "parameters are sharded again after forward; version 1 has a strategy here", "true"},
     "FSDP_RESHARD_AFTER_FORWARD",
     Spelling::lower,
     true,
     Shape::flag_or_strategy},
    flag_or("fsdp_config.fsdp_offload_params", "parameters are kept on the CPU", "FSDP_OFFLOAD_PARAMS", "false",
            Spelling::lower),
    count_or("fsdp_config.fsdp_min_num_params", "parameters of a unit (SIZE_BASED_WRAP)", "FSDP_MIN_NUM_PARAMS",
             "100000000", 0, kMostParameters),
    choice("fsdp_config.fsdp_auto_wrap_policy", "what becomes a unit", "FSDP_AUTO_WRAP_POLICY",
           "TRANSFORMER_BASED_WRAP SIZE_BASED_WRAP NO_WRAP"),
    text("fsdp_config.fsdp_transformer_layer_cls_to_wrap", "classes of layers that become units",
         "FSDP_TRANSFORMER_CLS_TO_WRAP"),
    choice("fsdp_config.fsdp_backward_prefetch", "when the next parameters are fetched in backward (version 1)",
           "FSDP_BACKWARD_PREFETCH", "BACKWARD_PRE BACKWARD_POST NO_PREFETCH"),
    choice("fsdp_config.fsdp_state_dict_type", "how a checkpoint is laid out", "FSDP_STATE_DICT_TYPE",
           "FULL_STATE_DICT LOCAL_STATE_DICT SHARDED_STATE_DICT"),
    flag_or("fsdp_config.fsdp_forward_prefetch", "the next parameters are fetched in forward (version 1)",
            "FSDP_FORWARD_PREFETCH", "false", Spelling::lower),
    flag_or("fsdp_config.fsdp_use_orig_params", "parameters keep their own shapes (version 1)", "FSDP_USE_ORIG_PARAMS",
            "true", Spelling::lower),
    flag_or("fsdp_config.fsdp_cpu_ram_efficient_loading", "rank 0 alone loads the weights",
            "FSDP_CPU_RAM_EFFICIENT_LOADING", "true", Spelling::lower),
    flag_or("fsdp_config.fsdp_sync_module_states", "rank 0 sends its weights to all; must be true with the one before",
            "FSDP_SYNC_MODULE_STATES", "true", Spelling::lower),
    flag_or("fsdp_config.fsdp_activation_checkpointing", "activations are computed again in backward",
            "FSDP_ACTIVATION_CHECKPOINTING", "false", Spelling::lower),
    flag_or("fsdp_config.fsdp_activation_checkpointing_offload", "what is kept of them is kept on the CPU",
            "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", "false", Spelling::lower),
    text("fsdp_config.fsdp_ignored_modules", "modules left alone, as a regular expression", "FSDP_IGNORED_MODULES"),

    count_or("parallelism_config.parallelism_config_dp_replicate_size", "replicas",
             "PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "1", 1),
    count_or("parallelism_config.parallelism_config_dp_shard_size", "shards of each replica",
             "PARALLELISM_CONFIG_DP_SHARD_SIZE", "1", 1),
    count_or("parallelism_config.parallelism_config_tp_size", "ranks of tensor parallelism",
             "PARALLELISM_CONFIG_TP_SIZE", "1", 1),
    count_or("parallelism_config.parallelism_config_cp_size", "ranks of context parallelism",
             "PARALLELISM_CONFIG_CP_SIZE", "1", 1),
    text_or("parallelism_config.parallelism_config_cp_backend", "who does context parallelism",
            "PARALLELISM_CONFIG_CP_BACKEND", "torch"),
    choice_or("parallelism_config.parallelism_config_cp_comm_strategy", "how its ranks talk, where there are several",
              "PARALLELISM_CONFIG_CP_COMM_STRATEGY", "allgather", "allgather alltoall"),
    count_or("parallelism_config.parallelism_config_sp_size", "ranks of sequence parallelism",
             "PARALLELISM_CONFIG_SP_SIZE", "1", 1),
    text_or("parallelism_config.parallelism_config_sp_backend", "who does sequence parallelism",
            "PARALLELISM_CONFIG_SP_BACKEND", "deepspeed"),
    count("parallelism_config.parallelism_config_sp_seq_length", "length of a sequence",
          "PARALLELISM_CONFIG_SP_SEQ_LENGTH", 1),
    flag_or("parallelism_config.parallelism_config_sp_seq_length_is_variable", "sequences differ in length",
            "PARALLELISM_CONFIG_SP_SEQ_LENGTH_IS_VARIABLE", "true"),
    text_or("parallelism_config.parallelism_config_sp_attn_implementation", "attention under sequence parallelism",
            "PARALLELISM_CONFIG_SP_ATTN_IMPLEMENTATION", "sdpa"),

    count_or("megatron_lm_config.megatron_lm_tp_degree", "ranks of tensor parallelism", "MEGATRON_LM_TP_DEGREE", "1",
             1),
    count_or("megatron_lm_config.megatron_lm_pp_degree", "stages of the pipeline", "MEGATRON_LM_PP_DEGREE", "1", 1),
    count("megatron_lm_config.megatron_lm_num_micro_batches", "micro batches in the pipeline",
          "MEGATRON_LM_NUM_MICRO_BATCHES", 1),
    flag("megatron_lm_config.megatron_lm_sequence_parallelism", "sequence parallelism",
         "MEGATRON_LM_SEQUENCE_PARALLELISM"),
    flag("megatron_lm_config.megatron_lm_recompute_activations", "activations are computed again in backward",
         "MEGATRON_LM_RECOMPUTE_ACTIVATIONS"),
    flag("megatron_lm_config.megatron_lm_use_distributed_optimizer", "the optimizer's state is sharded",
         "MEGATRON_LM_USE_DISTRIBUTED_OPTIMIZER"),
    text_or("megatron_lm_config.megatron_lm_gradient_clipping", "largest norm of the gradient",
            "MEGATRON_LM_GRADIENT_CLIPPING", "1.0", Shape::number),
    choice("megatron_lm_config.megatron_lm_recompute_granularity", "what is computed again",
           "MEGATRON_LM_RECOMPUTE_GRANULARITY", "full selective"),
    choice("megatron_lm_config.megatron_lm_recompute_method", "which layers are computed again",
           "MEGATRON_LM_RECOMPUTE_METHOD", "uniform block"),
    count("megatron_lm_config.megatron_lm_recompute_num_layers", "how many of them", "MEGATRON_LM_RECOMPUTE_NUM_LAYERS",
          0),
    text("megatron_lm_config.megatron_lm_attention_backend", "who computes attention", "MEGATRON_LM_ATTENTION_BACKEND"),
    count("megatron_lm_config.megatron_lm_expert_model_parallel_size", "ranks of expert parallelism",
          "MEGATRON_LM_EXPERT_MODEL_PARALLEL_SIZE", 1),
    count("megatron_lm_config.megatron_lm_context_parallel_size", "ranks of context parallelism",
          "MEGATRON_LM_CONTEXT_PARALLEL_SIZE", 1),
    text("megatron_lm_config.megatron_lm_attention_dropout", "dropout in attention", "MEGATRON_LM_ATTENTION_DROPOUT",
         Shape::number),
    text("megatron_lm_config.megatron_lm_hidden_dropout", "dropout elsewhere", "MEGATRON_LM_HIDDEN_DROPOUT",
         Shape::number),
    flag("megatron_lm_config.megatron_lm_attention_softmax_in_fp32", "softmax in 32 bits",
         "MEGATRON_LM_ATTENTION_SOFTMAX_IN_FP32"),
    count("megatron_lm_config.megatron_lm_expert_tensor_parallel_size", "ranks of tensor parallelism of an expert",
          "MEGATRON_LM_EXPERT_TENSOR_PARALLEL_SIZE", 1),
    flag("megatron_lm_config.megatron_lm_calculate_per_token_loss", "the loss is one of tokens",
         "MEGATRON_LM_CALCULATE_PER_TOKEN_LOSS"),
    flag("megatron_lm_config.megatron_lm_use_rotary_position_embeddings", "rotary positions",
         "MEGATRON_LM_USE_ROTARY_POSITION_EMBEDDINGS"),
    count("megatron_lm_config.megatron_lm_decoder_last_pipeline_num_layers", "layers of the decoder's last stage",
          "MEGATRON_LM_DECODER_LAST_PIPELINE_NUM_LAYERS", 0),
    flag_or("megatron_lm_config.megatron_lm_use_custom_fsdp", "Megatron's own FSDP", "MEGATRON_LM_USE_CUSTOM_FSDP",
            "false"),
    flag_or("megatron_lm_config.megatron_lm_no_load_optim", "a checkpoint's optimizer is not loaded",
            "MEGATRON_LM_NO_LOAD_OPTIM", "false"),
    flag_or("megatron_lm_config.megatron_lm_no_save_optim", "the optimizer is not saved", "MEGATRON_LM_NO_SAVE_OPTIM",
            "false"),
    flag_or("megatron_lm_config.megatron_lm_eod_mask_loss", "no loss at ends of documents", "MEGATRON_LM_EOD_MASK_LOSS",
            "false"),
    flag_or("megatron_lm_config.megatron_lm_optimizer_cpu_offload", "the optimizer's state is kept on the CPU",
            "MEGATRON_LM_OPTIMIZER_CPU_OFFLOAD", "false"),
    flag_or("megatron_lm_config.megatron_lm_use_precision_aware_optimizer", "its state has fewer bits",
            "MEGATRON_LM_USE_PRECISION_AWARE_OPTIMIZER", "false"),
    flag_or("megatron_lm_config.megatron_lm_overlap_cpu_optimizer_d2h_h2d", "its copies overlap with computing",
            "MEGATRON_LM_OVERLAP_CPU_OPTIMIZER_D2H_H2D", "false"),

    text("mpirun_config.mpirun_hostfile",
         "hosts and slots of a job on CPUs where llmlaunch.hosts and the command line have none", ""),
    count("mpirun_config.mpirun_ccl", "of accelerate before 1.10: oneCCL's workers on each host", "CCL_WORKER_COUNT",
          0),

    choice_or("dynamo_config.dynamo_backend", "who compiles the model", "ACCELERATE_DYNAMO_BACKEND", "NO",
              "NO EAGER AOT_EAGER INDUCTOR AOT_TS_NVFUSER NVPRIMS_NVFUSER CUDAGRAPHS OFI FX2TRT ONNXRT TENSORRT "
              "AOT_TORCHXLA_TRACE_ONCE TORCHXLA_TRACE_ONCE TVM HPU_BACKEND NEURON"),
    choice_or("dynamo_config.dynamo_mode", "what it is compiled for", "ACCELERATE_DYNAMO_MODE", "default",
              "default reduce-overhead max-autotune"),
    flag_or("dynamo_config.dynamo_use_fullgraph", "one graph, or an error", "ACCELERATE_DYNAMO_USE_FULLGRAPH", "false"),
    flag_or("dynamo_config.dynamo_use_dynamic", "shapes may change", "ACCELERATE_DYNAMO_USE_DYNAMIC", "false"),
    flag_or("dynamo_config.dynamo_use_regional_compilation", "repeated blocks are compiled once",
            "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", "false"),

    flag("ipex_config.ipex", "of accelerate before 1.10: Intel's extension", "ACCELERATE_USE_IPEX", Spelling::lower),
    flag("ipex_config.use_xpu", "of accelerate before 1.10: an Intel GPU", "ACCELERATE_USE_XPU", Spelling::lower),
    count_or("tp_config.tp_size", "of accelerate 1.3 to 1.9: ranks of tensor parallelism", "TP_SIZE", "1", 1),
});

/// Names that accelerate's wizard or its older versions write, and workers never see under these.
struct OtherName {
  std::string_view path;
  std::string_view row;
};
constexpr auto kOtherNames = std::to_array<OtherName>({
    {"fp8_config.fp8_amax_history_length", "fp8_config.fp8_amax_history_len"},
    {"fp8_config.fp8_amax_compute_algorithm", "fp8_config.fp8_amax_compute_algo"},
    {"fp8_config.fp8_optimization_level", "fp8_config.fp8_opt_level"},
    {"fsdp_config.fsdp_backward_prefetch_policy", "fsdp_config.fsdp_backward_prefetch"},
});

/// What a section's keys may begin with.
std::string_view prefix_of(std::string_view section) {
  if (section == "fp8_config") return "fp8_";
  if (section == "fsdp_config") return "fsdp_";
  if (section == "parallelism_config") return "parallelism_config_";
  if (section == "megatron_lm_config") return "megatron_lm_";
  if (section == "dynamo_config") return "dynamo_";
  return {};
}

}  // namespace

std::span<const AccelerateSetting> accelerate_settings() {
  return kRows;
}

std::vector<std::string_view> other_names_of(const AccelerateSetting& row) {
  const std::string_view prefix = prefix_of(section_of(row.setting));
  std::vector<std::string_view> names;
  const auto add = [&](std::string_view key) {
    if (!prefix.empty() && key.starts_with(prefix)) names.push_back(key.substr(prefix.size()));
  };
  add(key_of(row.setting));
  for (const OtherName& other : kOtherNames) {
    if (other.row != row.setting.path) continue;
    const std::string_view key = other.path.substr(other.path.find('.') + 1);
    names.push_back(key);
    add(key);
  }
  return names;
}

const AccelerateSetting* find_accelerate_setting(std::string_view path) {
  const auto dot = path.find('.');
  if (dot == path.npos) return nullptr;
  for (const SettingRow& row : kRows) {
    if (row.setting.path == path) return &row;
    if (section_of(row.setting) != path.substr(0, dot)) continue;
    const auto names = other_names_of(row);
    if (std::find(names.begin(), names.end(), path.substr(dot + 1)) != names.end()) return &row;
  }
  return nullptr;
}

void append_section(std::string_view section, std::vector<Setting>& table) {
  static std::deque<std::string> paths;  // rows point into it for as long as the program runs
  for (const SettingRow& row : kRows) {
    if (section_of(row.setting) != section) continue;
    table.push_back(row.setting);
    for (const std::string_view name : other_names_of(row)) {
      Setting other = row.setting;
      other.path = paths.emplace_back(std::string(section) + "." + std::string(name));
      other.instead = key_of(row.setting);
      table.push_back(other);
    }
  }
}

}  // namespace llmlaunch::launcher
