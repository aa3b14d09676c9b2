// Section by section: does it apply to this job, which variable says that it does, and then its rows. Where accelerate
// loses an answer on the way to the worker, the worker gets it here: an fp8 key under the wizard's name, an NVMe path
// of DeepSpeed, dynamo_config in a DeepSpeed job.
#include "launcher/accelerate_env.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "launcher/accelerate_settings.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

bool has_section(const Config& config, std::string_view section) {
  const std::string start = std::string(section) + ".";
  const auto first = config.accelerate.lower_bound(start);
  return first != config.accelerate.end() && first->first.starts_with(start);
}

std::string given_or_default(const Config& config, const AccelerateSetting& row) {
  const auto found = config.accelerate.find(row.setting.path);
  return found != config.accelerate.end() ? found->second : std::string(row.setting.default_words);
}

std::string spelled(std::string value, const AccelerateSetting& row) {
  if (row.spelling == Spelling::lower)
    std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::tolower(c); });
  if (row.spelling == Spelling::python && (value == "true" || value == "false"))
    value = value == "true" ? "True" : "False";
  return value;
}

void append_three_flags(const std::string& value, EnvList& list) {
  const std::size_t first = value.find(','), second = value.rfind(',');
  const auto flag = [](std::string_view text) { return text == "true" ? "True" : "False"; };
  list.emplace_back("ACCELERATE_FP8_OVERRIDE_FPROP", flag(value.substr(0, first)));
  list.emplace_back("ACCELERATE_FP8_OVERRIDE_DGRAD", flag(value.substr(first + 1, second - first - 1)));
  list.emplace_back("ACCELERATE_FP8_OVERRIDE_WGRAD", flag(value.substr(second + 1)));
}

/// Settings that mean something with others alone: how several ranks of context parallelism talk.
bool is_idle(const Config& config, std::string_view path) {
  const auto one = [&](const char* size) {
    const auto found = config.accelerate.find(size);
    return found == config.accelerate.end() || found->second == "1";
  };
  if (path == "parallelism_config.parallelism_config_cp_comm_strategy")
    return one("parallelism_config.parallelism_config_cp_size");
  if (path.starts_with("parallelism_config.parallelism_config_sp_") && !path.ends_with("_sp_size") &&
      !path.ends_with("_sp_backend"))
    return one("parallelism_config.parallelism_config_sp_size");
  return false;
}

void append_rows(const Config& config, std::string_view section, EnvList& list) {
  for (const AccelerateSetting& row : accelerate_settings()) {
    if (section_of(row.setting) != section || row.variable.empty() || is_idle(config, row.setting.path)) continue;
    if (!row.always && config.accelerate.count(row.setting.path) == 0) continue;
    const std::string value = given_or_default(config, row);
    if (row.shape == ValueShape::three_flags) {
      append_three_flags(value, list);
    } else {
      list.emplace_back(row.variable, spelled(value, row));
    }
  }
}

/// Which keys came from accelerate's file: a worker complains when DeepSpeed's own file says otherwise.
std::string deepspeed_fields(const Config& config) {
  std::string fields = fmt::format("{}", fmt::join(config.deepspeed_fields, ","));
  if (config.mixed_precision_given) fields += fields.empty() ? "mixed_precision" : ",mixed_precision";
  return fields;
}

}  // namespace

bool on_cpu(const Config& config) {
  return config.use_cpu || config.distributed_type == "MULTI_CPU";
}

std::string why_without_effect(std::string_view section, const Config& config) {
  const std::string& type = config.distributed_type;
  const std::string is_type = fmt::format("distributed_type is {}", type.empty() ? "not given" : type);
  if (section == "fp8_config") {
    return config.mixed_precision == "fp8" ? "" : fmt::format("mixed_precision is {}", config.mixed_precision);
  }
  if (section == "deepspeed_config") return type == "DEEPSPEED" ? "" : is_type;
  if (section == "fsdp_config") return type == "FSDP" ? "" : is_type;
  if (section == "megatron_lm_config") return type == "MEGATRON_LM" ? "" : is_type;
  if (section == "parallelism_config" || section == "tp_config")
    return type.empty() || type == "NO" || type == "MULTI_CPU" ? is_type : "";
  if (section == "mpirun_config") return on_cpu(config) ? "" : "the ranks compute on GPUs";
  return "";
}

EnvList accelerate_env(const Config& config, std::size_t ranks_on_host) {
  EnvList list;
  list.emplace_back(env::kMixedPrecision, config.mixed_precision);
  list.emplace_back("ACCELERATE_USE_CPU", on_cpu(config) ? "true" : "false");
  if (config.debug) list.emplace_back("ACCELERATE_DEBUG_MODE", "true");
  const bool deepspeed = config.distributed_type == "DEEPSPEED";
  if (on_cpu(config)) {
    list.emplace_back("KMP_BLOCKTIME", "1");
    // Compact: the first threads on the first cores. Several ranks would all take the same ones.
    if (ranks_on_host == 1) list.emplace_back("KMP_AFFINITY", "granularity=fine,compact,1,0");
  }
  const auto applies = [&](std::string_view section) { return why_without_effect(section, config).empty(); };
  if (config.mixed_precision == "fp8") append_rows(config, "fp8_config", list);
  if (has_section(config, "dynamo_config")) append_rows(config, "dynamo_config", list);
  if (deepspeed) {
    list.emplace_back("ACCELERATE_USE_DEEPSPEED", "true");
    list.emplace_back("ACCELERATE_CONFIG_DS_FIELDS", deepspeed_fields(config));
    append_rows(config, "deepspeed_config", list);
  }
  if (applies("fsdp_config")) {
    list.emplace_back("ACCELERATE_USE_FSDP", "true");
    append_rows(config, "fsdp_config", list);
  }
  if (applies("megatron_lm_config")) {
    list.emplace_back("ACCELERATE_USE_MEGATRON_LM", "true");
    append_rows(config, "megatron_lm_config", list);
  }
  if (has_section(config, "parallelism_config") && applies("parallelism_config")) {
    list.emplace_back("ACCELERATE_USE_PARALLELISM_CONFIG", "true");
    append_rows(config, "parallelism_config", list);
  }
  if (has_section(config, "tp_config") && applies("tp_config")) {
    list.emplace_back("ACCELERATE_USE_TP", "true");
    append_rows(config, "tp_config", list);
  }
  if (applies("mpirun_config")) append_rows(config, "mpirun_config", list);
  append_rows(config, "ipex_config", list);
  return list;
}

}  // namespace llmlaunch::launcher
