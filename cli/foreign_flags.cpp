// The table, and the few entries that need more than a row. Families of options whose names are the file's keys
// (--fsdp_*, --megatron_lm_*, …) are one row each.
#include "cli/foreign_flags.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "cli/option_values.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {
namespace {

enum class Does {
  key,       // sets the file's key `target` to the value
  flag_key,  // takes no value: sets `target` to `text`, "true" when that is empty
  variable,  // sets the variable `target` for all ranks
  special,   // see apply_special
  nothing,   // has no effect; `text` says why
  silent,    // asks for what is so in any case
  refused,   // `text` says why
};

/// Whose option it is. Who types one that torchrun alone has counts ranks as torchrun does.
enum class Of { accelerate, torchrun, both };

struct Flag {
  std::string_view name;
  Of of;
  bool takes_value;
  Does does;
  std::string_view target = {};
  std::string_view text = {};
};

constexpr std::string_view kServes = "llmlaunch serves a rendezvous of its own for every run";
constexpr std::string_view kNoPrograms = "ranks are programs, not functions";
constexpr std::string_view kSpreads = "llmlaunch starts every host itself";
constexpr std::string_view kKeepsLines =
    "every line goes to the run directory and to the console; --ranks and --quiet say what is shown";
constexpr std::string_view kNoTpu = "TPU pods are not supported";
constexpr std::string_view kNoSageMaker =
    "SageMaker is not supported: llmlaunch starts jobs on machines that it reaches";

constexpr auto kFlags = std::to_array<Flag>({
    // accelerate launch
    {"--num-machines", Of::accelerate, true, Does::key, "num_machines"},
    {"--machine-rank", Of::accelerate, true, Does::key, "machine_rank"},
    {"--main-process-ip", Of::accelerate, true, Does::key, "main_process_ip"},
    {"--main-process-port", Of::accelerate, true, Does::key, "main_process_port"},
    {"--mixed-precision", Of::accelerate, true, Does::key, "mixed_precision"},
    {"--gpu-ids", Of::accelerate, true, Does::key, "gpu_ids"},
    {"--cpu", Of::accelerate, false, Does::flag_key, "use_cpu"},
    {"--debug", Of::accelerate, false, Does::flag_key, "debug"},
    {"--enable-cpu-affinity", Of::accelerate, false, Does::flag_key, "enable_cpu_affinity"},
    {"--same-network", Of::accelerate, false, Does::flag_key, "same_network"},
    {"--multi-gpu", Of::accelerate, false, Does::flag_key, "distributed_type", "MULTI_GPU"},
    {"--use-deepspeed", Of::accelerate, false, Does::flag_key, "distributed_type", "DEEPSPEED"},
    {"--use-fsdp", Of::accelerate, false, Does::flag_key, "distributed_type", "FSDP"},
    {"--use-megatron-lm", Of::accelerate, false, Does::flag_key, "distributed_type", "MEGATRON_LM"},
    {"--use-parallelism-config", Of::accelerate, false, Does::silent},
    {"--use-xpu", Of::accelerate, false, Does::flag_key, "distributed_type", "MULTI_XPU"},
    {"--num-cpu-threads-per-process", Of::accelerate, true, Does::variable, "OMP_NUM_THREADS"},
    {"--dynamo-backend", Of::accelerate, true, Does::key, "dynamo_config.dynamo_backend"},
    {"--dynamo-mode", Of::accelerate, true, Does::key, "dynamo_config.dynamo_mode"},
    {"--dynamo-use-fullgraph", Of::accelerate, false, Does::flag_key, "dynamo_config.dynamo_use_fullgraph"},
    {"--dynamo-use-dynamic", Of::accelerate, false, Does::flag_key, "dynamo_config.dynamo_use_dynamic"},
    {"--dynamo-use-regional-compilation", Of::accelerate, false, Does::flag_key,
     "dynamo_config.dynamo_use_regional_compilation"},
    {"--fp8-use-autocast-during-eval", Of::accelerate, false, Does::flag_key,
     "fp8_config.fp8_use_autocast_during_eval"},
    {"--mpirun-hostfile", Of::accelerate, true, Does::key, "mpirun_config.mpirun_hostfile"},
    {"--mpirun-ccl", Of::accelerate, true, Does::nothing, "", "llmlaunch starts no mpirun"},
    {"--ipex", Of::accelerate, false, Does::nothing, "", "accelerate has dropped it"},
    {"--main-training-function", Of::accelerate, true, Does::nothing, "", "it is for TPUs"},
    {"--downcast-bf16", Of::accelerate, false, Does::nothing, "", "it is for TPUs"},
    {"--tpu", Of::accelerate, false, Does::refused, "", kNoTpu},
    {"--tpu-cluster", Of::accelerate, false, Does::refused, "", kNoTpu},
    {"--no-tpu-cluster", Of::accelerate, false, Does::refused, "", kNoTpu},
    {"--tpu-use-cluster", Of::accelerate, false, Does::refused, "", kNoTpu},
    {"--tpu-use-sudo", Of::accelerate, false, Does::refused, "", kNoTpu},
    {"--tpu-name", Of::accelerate, true, Does::refused, "", kNoTpu},
    {"--tpu-zone", Of::accelerate, true, Does::refused, "", kNoTpu},
    {"--vm", Of::accelerate, true, Does::refused, "", kNoTpu},
    {"--aws-access-key-id", Of::accelerate, true, Does::refused, "", kNoSageMaker},
    {"--aws-secret-access-key", Of::accelerate, true, Does::refused, "", kNoSageMaker},
    // its DeepSpeed options
    {"--deepspeed-config-file", Of::accelerate, true, Does::key, "deepspeed_config.deepspeed_config_file"},
    {"--zero-stage", Of::accelerate, true, Does::key, "deepspeed_config.zero_stage"},
    {"--offload-optimizer-device", Of::accelerate, true, Does::key, "deepspeed_config.offload_optimizer_device"},
    {"--offload-param-device", Of::accelerate, true, Does::key, "deepspeed_config.offload_param_device"},
    {"--offload-optimizer-nvme-path", Of::accelerate, true, Does::key, "deepspeed_config.offload_optimizer_nvme_path"},
    {"--offload-param-nvme-path", Of::accelerate, true, Does::key, "deepspeed_config.offload_param_nvme_path"},
    {"--gradient-accumulation-steps", Of::accelerate, true, Does::key, "deepspeed_config.gradient_accumulation_steps"},
    {"--gradient-clipping", Of::accelerate, true, Does::key, "deepspeed_config.gradient_clipping"},
    {"--zero3-init-flag", Of::accelerate, true, Does::key, "deepspeed_config.zero3_init_flag"},
    {"--zero3-save-16bit-model", Of::accelerate, true, Does::key, "deepspeed_config.zero3_save_16bit_model"},
    {"--deepspeed-hostfile", Of::accelerate, true, Does::key, "deepspeed_config.deepspeed_hostfile"},
    {"--deepspeed-exclusion-filter", Of::accelerate, true, Does::key, "deepspeed_config.deepspeed_exclusion_filter"},
    {"--deepspeed-inclusion-filter", Of::accelerate, true, Does::key, "deepspeed_config.deepspeed_inclusion_filter"},
    {"--deepspeed-multinode-launcher", Of::accelerate, true, Does::key,
     "deepspeed_config.deepspeed_multinode_launcher"},
    {"--deepspeed-moe-layer-cls-names", Of::accelerate, true, Does::key,
     "deepspeed_config.deepspeed_moe_layer_cls_names"},
    // torchrun
    {"--nnodes", Of::torchrun, true, Does::special},
    {"--node-rank", Of::torchrun, true, Does::key, "machine_rank"},
    {"--master-addr", Of::torchrun, true, Does::key, "main_process_ip"},
    {"--master-port", Of::torchrun, true, Does::key, "main_process_port"},
    {"--rdzv-endpoint", Of::torchrun, true, Does::special},
    {"--rdzv-conf", Of::both, true, Does::special},
    {"--rdzv-backend", Of::both, true, Does::key, "rdzv_backend"},
    {"--rdzv-id", Of::torchrun, true, Does::special},
    {"--standalone", Of::torchrun, false, Does::nothing, "", kServes},
    {"--role", Of::both, true, Does::variable, "ROLE_NAME"},
    {"--max-restarts", Of::both, true, Does::special},
    {"--monitor-interval", Of::both, true, Does::nothing, "", "the end of a rank is seen when it happens"},
    {"--start-method", Of::torchrun, true, Does::nothing, "", kNoPrograms},
    {"--run-path", Of::torchrun, false, Does::nothing, "", "scripts are run by Python itself"},
    {"--tee", Of::both, true, Does::special},
    {"--redirects", Of::torchrun, true, Does::special},
    {"--local-ranks-filter", Of::torchrun, true, Does::special},
    {"--duplicate-stdout-filters", Of::torchrun, true, Does::nothing, "", kKeepsLines},
    {"--duplicate-stderr-filters", Of::torchrun, true, Does::nothing, "", kKeepsLines},
    {"--logs-specs", Of::torchrun, true, Does::nothing, "", kKeepsLines},
    {"--event-log-handler", Of::torchrun, true, Does::nothing, "", "--json-events FILE has the events of a job"},
    {"--log-line-prefix-template", Of::torchrun, true, Does::special},
    {"--print-completion", Of::torchrun, true, Does::refused, "",
     "llmlaunch docs completion prints one, for bash, zsh or fish"},
    {"--numa-binding", Of::torchrun, true, Does::special},
    {"--shutdown-timeout", Of::torchrun, true, Does::special},
    {"--signals-to-handle", Of::torchrun, true, Does::nothing, "",
     "INT, TERM, HUP and QUIT stop the job; --forward-signal passes others on"},
    {"--local-addr", Of::torchrun, true, Does::nothing, "", kSpreads},
    {"--virtual-local-rank", Of::torchrun, false, Does::refused, "",
     "every rank has its own LOCAL_RANK; llmlaunch.rank_env sets CUDA_VISIBLE_DEVICES: '{local_rank}'"},
});

/// Options of these names have the file's key of the same name, below that section.
struct Family {
  std::string_view prefix;
  std::string_view section;
};
constexpr std::array<Family, 4> kFamilies{{{"--fsdp-", "fsdp_config"},
                                           {"--megatron-lm-", "megatron_lm_config"},
                                           {"--parallelism-config-", "parallelism_config"},
                                           {"--fp8-", "fp8_config"}}};

const Flag* find_flag(std::string_view name) {
  const auto found = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == kFlags.end() ? nullptr : &*found;
}

const Family* find_family(std::string_view name) {
  const auto found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family& family) {
    return name.starts_with(family.prefix) && name.size() > family.prefix.size();
  });
  return found == kFamilies.end() ? nullptr : &*found;
}

/// "--fsdp-version" → "fsdp_version"
std::string key_named(std::string_view name) {
  std::string key(name.substr(2));
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

Error refuse(const ForeignUse& use, std::string_view must_be) {
  return usage(fmt::format("{} must be {}, not '{}'", use.option, must_be, use.value), lists_options("llmlaunch run"));
}

void note_no_effect(const ForeignUse& use, std::string_view why, RunOptions& options) {
  options.notes.push_back(fmt::format("{} has no effect: {}", use.option, why));
}

void set_key(const ForeignUse& use, std::string key, std::string value, RunOptions& options) {
  options.overrides.push_back({std::move(key), std::move(value), use.option});
}

Result<void> take_nnodes(const ForeignUse& use, RunOptions& options) {
  const auto colon = use.value.find(':');
  const auto first = parse_whole<std::uint32_t>(std::string_view(use.value).substr(0, colon));
  const auto last =
      colon == use.value.npos ? first : parse_whole<std::uint32_t>(std::string_view(use.value).substr(colon + 1));
  if (!first || !last || *first == 0 || *last < *first) return refuse(use, "a number of machines, or MIN:MAX");
  set_key(use, "num_machines", fmt::format("{}", *last), options);
  if (*first != *last)
    options.notes.push_back(fmt::format("{} {}: the job has {} machines, no more and no fewer; {} N starts it with N",
                                        use.option, use.value, *last, use.option));
  return ok;
}

/// "HOST", "HOST:PORT", "[::1]:PORT"
Result<void> take_endpoint(const ForeignUse& use, RunOptions& options) {
  if (use.value.empty()) return ok;  // torchrun's default
  std::string host = use.value;
  const bool six = host.starts_with('[');
  const auto colon = six ? host.find("]:") : host.rfind(':');
  if (colon != host.npos && (six || host.find(':') == colon)) {
    set_key(use, "main_process_port", host.substr(colon + (six ? 2 : 1)), options);
    host.resize(six ? colon + 1 : colon);
  }
  if (six && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  set_key(use, "main_process_ip", host, options);
  options.endpoint = true;
  return ok;
}

/// As torchrun reads it.
std::optional<bool> truth(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const std::string_view yes : {"1", "true", "t", "yes", "y"})
    if (lower == yes) return true;
  for (const std::string_view no : {"0", "false", "f", "no", "n"})
    if (lower == no) return false;
  return std::nullopt;
}

/// "timeout=900,is_host=true,read_timeout=60": how long ranks may take to meet, and which machine others call, is what
/// llmlaunch knows of these.
Result<void> take_rendezvous_conf(const ForeignUse& use, RunOptions& options) {
  std::string others;
  for (std::size_t start = 0; start < use.value.size();) {
    const std::size_t end = std::min(use.value.find(',', start), use.value.size());
    const std::string_view pair = std::string_view(use.value).substr(start, end - start);
    start = end + 1;
    const auto equals = pair.find('=');
    if (equals == pair.npos) return refuse(use, "KEY=VALUE, separated by commas");
    const std::string_view key = pair.substr(0, equals);
    if (key == "is_host") {
      const auto is_host = truth(pair.substr(equals + 1));
      if (!is_host) return refuse(use, "such as is_host=true or is_host=false");
      options.is_host = TypedText{use.option + " is_host", *is_host ? "true" : "false"};
      continue;
    }
    if (key != "timeout" && key != "join_timeout") {
      others += fmt::format("{}{}", others.empty() ? "" : ", ", key);
      continue;
    }
    const auto time = launcher::parse_duration(pair.substr(equals + 1));
    if (!time || time->count() == 0) return refuse(use, "seconds behind " + std::string(key));
    options.rendezvous_timeout = *time;
  }
  if (!others.empty()) note_no_effect({use.option + " " + others, {}, {}}, kServes, options);
  return ok;
}

/// 0-3, or LOCAL_RANK:0-3 for each.
Result<void> take_stream_choice(const ForeignUse& use, RunOptions& options) {
  for (std::size_t start = 0; start <= use.value.size();) {
    const std::size_t end = std::min(use.value.find(',', start), use.value.size());
    const std::string_view one = std::string_view(use.value).substr(start, end - start);
    start = end + 1;
    const auto colon = one.find(':');
    const auto what = parse_whole<std::uint32_t>(colon == one.npos ? one : one.substr(colon + 1));
    if (!what || *what > 3 || (colon != one.npos && !parse_whole<std::uint32_t>(one.substr(0, colon))))
      return refuse(use, "0, 1, 2 or 3, or such as 0:3,1:0");
  }
  // Both streams of all ranks on the console and in files is what --tee 3 asks for, and more than all else does.
  if (use.name == "--redirects" && use.value != "0") note_no_effect(use, kKeepsLines, options);
  return ok;
}

/// "[${role_name}${rank}]:" as --prefix has it. --prefix itself wins.
Result<void> take_line_prefix(const ForeignUse& use, std::string_view role, RunOptions& options) {
  const std::array<std::pair<std::string_view, std::string_view>, 3> names{
      {{"${rank}", "{rank}"}, {"${local_rank}", "{local_rank}"}, {"${role_name}", role}}};
  std::string prefix;
  for (std::string_view rest = use.value; !rest.empty();) {
    const auto name =
        std::find_if(names.begin(), names.end(), [&](const auto& one) { return rest.starts_with(one.first); });
    if (name == names.end() && rest.starts_with("${"))
      return refuse(use, "text with ${rank}, ${local_rank} or ${role_name}");
    prefix += name != names.end() ? name->second : rest.substr(0, 1);
    if (name == names.end() && (rest.front() == '{' || rest.front() == '}')) prefix += rest.front();  // no name of ours
    rest.remove_prefix(name != names.end() ? name->first.size() : 1);
  }
  if (!options.prefix) options.prefix = std::move(prefix);
  return ok;
}

Result<void> apply_special(const ForeignUse& use, RunOptions& options) {
  if (use.name == "--nnodes") return take_nnodes(use, options);
  if (use.name == "--rdzv-endpoint") return take_endpoint(use, options);
  if (use.name == "--rdzv-conf") return take_rendezvous_conf(use, options);
  if (use.name == "--rdzv-id") {
    options.run_id = use.value;
    return ok;
  }
  if (use.name == "--tee" || use.name == "--redirects") return take_stream_choice(use, options);
  if (use.name == "--max-restarts") {
    const auto count = parse_whole<std::uint32_t>(use.value);
    if (!count) return refuse(use, "a number");
    if (*count > 0) note_no_effect(use, "a failed rank ends the job", options);
    return ok;
  }
  if (use.name == "--local-ranks-filter") {
    if (use.value.empty()) return ok;
    auto ranks = launcher::parse_ranks(use.value);
    if (!ranks) return refuse(use, "local ranks such as 0 or 0,1");
    options.local_ranks = std::move(*ranks);
    return ok;
  }
  if (use.name == "--shutdown-timeout") {
    const auto time = launcher::parse_duration(use.value);
    if (!time) return refuse(use, "a time in seconds");
    options.grace = *time;
    return ok;
  }
  // --numa-binding
  constexpr std::array<std::string_view, 4> kKinds{"node", "socket", "exclusive", "core-complex"};
  if (std::find(kKinds.begin(), kKinds.end(), use.value) == kKinds.end())
    return refuse(use, "node, socket, exclusive or core-complex");
  if (!options.cpu_bind) options.cpu_bind = launcher::agent::CpuBind::gpu;
  if (use.value != "exclusive")
    options.notes.push_back(
        fmt::format("{} {}: taken as --cpu-bind gpu, which gives each rank cores of its own", use.option, use.value));
  return ok;
}

Result<void> apply_one(const ForeignUse& use, RunOptions& options) {
  const Flag* flag = find_flag(use.name);
  if (flag == nullptr) {  // of a family
    set_key(use, fmt::format("{}.{}", find_family(use.name)->section, key_named(use.name)), use.value, options);
    return ok;
  }
  switch (flag->does) {
    case Does::key: set_key(use, std::string(flag->target), use.value, options); return ok;
    case Does::flag_key:
      set_key(use, std::string(flag->target), flag->text.empty() ? "true" : std::string(flag->text), options);
      return ok;
    case Does::variable:
      if (use.name == "--num-cpu-threads-per-process" && parse_whole<std::uint32_t>(use.value).value_or(0) == 0)
        return refuse(use, "a number from 1");
      options.env.insert(options.env.begin(), fmt::format("{}={}", flag->target, use.value));
      return ok;
    case Does::special: return apply_special(use, options);
    case Does::nothing: note_no_effect(use, flag->text, options); return ok;
    case Does::silent: return ok;
    case Does::refused: return usage(fmt::format("{}: {}", use.option, flag->text), "");
  }
  return ok;
}

}  // namespace

ForeignKind foreign_kind(std::string_view name) {
  if (const Flag* flag = find_flag(name)) return {true, flag->takes_value};
  return {find_family(name) != nullptr, true};
}

std::string_view own_name(std::string_view name) {
  if (name == "--config-file") return "--config";
  if (name == "--num-nodes") return "--nodes";  // DeepSpeed's
  if (name == "--num-gpus") return "--nproc-per-node";
  if (name == "-t") return "--tee";
  if (name == "-r") return "--redirects";
  return name;
}

Result<void> apply_foreign(const std::vector<ForeignUse>& uses, RunOptions& options) {
  std::vector<std::string_view> kinds;
  std::string_view role = "default";  // torchrun's word
  for (const ForeignUse& use : uses)
    if (use.name == "--role") role = use.value;
  for (const ForeignUse& use : uses) {
    const Flag* const flag = find_flag(use.name);
    options.torchrun = options.torchrun || (flag != nullptr && flag->of == Of::torchrun);
    if (use.name == "--log-line-prefix-template") {
      if (auto done = take_line_prefix(use, role, options); !done) return done;
      continue;
    }
    if (flag != nullptr && flag->target == "distributed_type") kinds.push_back(use.option);
    if (auto done = apply_one(use, options); !done) return done;
  }
  // accelerate takes --multi_gpu beside one of the others as what it is anyway.
  std::erase_if(kinds, [&](std::string_view option) { return kinds.size() > 1 && option.starts_with("--multi"); });
  if (kinds.size() > 1)
    return usage(fmt::format("{} and {} exclude each other", kinds[0], kinds[1]), lists_options("llmlaunch run"));
  return ok;
}

std::vector<std::string> foreign_names() {
  std::vector<std::string> names;
  for (const Flag& flag : kFlags) names.emplace_back(flag.name);
  return names;
}

}  // namespace llmlaunch::cli
