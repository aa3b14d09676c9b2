// accelerate's sections: what they say reaches the ranks; what they cannot say is refused at its place.
#include <algorithm>
#include <map>
#include <set>

#include "launcher/accelerate_env.hpp"
#include "launcher/accelerate_hosts.hpp"
#include "launcher/accelerate_settings.hpp"
#include "tests/support/config_text.hpp"

namespace launcher_accelerate_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::testing::message;
using llmlaunch::testing::parsed;

namespace {

std::map<std::string, std::string> env_of(const std::string& text, std::size_t ranks = 2) {
  const EnvList list = accelerate_env(parsed(text), ranks);
  std::map<std::string, std::string> env(list.begin(), list.end());
  CHECK(env.size() == list.size());  // nothing is set twice
  return env;
}

HostSources with_file(const std::string& text) {
  HostSources sources;
  sources.read_file = [text](const std::string&) { return Result<std::string>(text); };
  return sources;
}

/// "a:2=0,3 b:4": host:slots=gpu_ids.
std::string hosts_after(const std::string& text, const std::string& hostfile = "") {
  Config config = parsed(text);
  if (const auto taken = take_accelerate_hosts(config, with_file(hostfile)); !taken) return to_string(taken.error());
  std::string all;
  for (const auto& host : config.hosts) {
    all += (all.empty() ? "" : " ") + host.name;
    if (host.slots) all += ":" + std::to_string(*host.slots);
    if (host.gpu_ids) all += "=" + *host.gpu_ids;
  }
  return all;
}

}  // namespace

TEST_CASE("a variable has one row, and a row that is always set has its value") {
  std::set<std::string_view> variables;
  for (const auto& row : accelerate_settings()) {
    INFO(row.setting.path);
    if (!row.variable.empty()) CHECK(variables.insert(row.variable).second);
    if (row.always) CHECK_FALSE(row.setting.default_words.empty());
    CHECK(find_accelerate_setting(row.setting.path) == &row);
    for (const auto name : other_names_of(row))
      CHECK(find_accelerate_setting(std::string(section_of(row.setting)) + "." + std::string(name)) == &row);
  }
}

TEST_CASE("a key means the same with the prefix of its section and without") {
  const std::string type = "distributed_type: FSDP\nmixed_precision: fp8\n";
  CHECK(env_of(type + "fsdp_config: {version: 2, offload_params: yes}") ==
        env_of(type + "fsdp_config: {fsdp_version: 2, fsdp_offload_params: true}"));
  CHECK(env_of(type + "dynamo_config: {backend: inductor}") ==
        env_of(type + "dynamo_config: {dynamo_backend: INDUCTOR}"));
  CHECK(env_of(type + "dynamo_backend: INDUCTOR").at("ACCELERATE_DYNAMO_BACKEND") == "INDUCTOR");
  CHECK(env_of(type + "parallelism_config: {tp_size: 2}").at("PARALLELISM_CONFIG_TP_SIZE") == "2");
  CHECK(env_of("distributed_type: MEGATRON_LM\nmegatron_lm_config: {pp_degree: 4}").at("MEGATRON_LM_PP_DEGREE") == "4");
  CHECK(message("fsdp_config: {version: 2, fsdp_version: 2}") ==
        "cfg.yaml:1:27: fsdp_config has 'fsdp_version' twice\n    1 | fsdp_config: {version: 2, fsdp_version: 2}\n"
        "      |                           ^ 'fsdp_version' is another spelling of it");
}

TEST_CASE("answers that accelerate loses on the way reach the worker") {
  const auto env = env_of(
      "distributed_type: DEEPSPEED\nmixed_precision: fp8\n"
      "fp8_config: {amax_history_length: 16, amax_compute_algorithm: max, optimization_level: O1,\n"
      "  override_linear_precision: [true, false, true]}\n"
      "deepspeed_config: {zero_stage: 3, offload_param_nvme_path: /nvme, gradient_clipping: auto}\n"
      "dynamo_config: {dynamo_backend: EAGER}\n");
  CHECK(env.at("ACCELERATE_FP8_AMAX_HISTORY_LEN") == "16");
  CHECK(env.at("ACCELERATE_FP8_AMAX_COMPUTE_ALGO") == "max");
  CHECK(env.at("ACCELERATE_FP8_OPT_LEVEL") == "O1");
  CHECK(env.at("ACCELERATE_FP8_OVERRIDE_FPROP") == "True");
  CHECK(env.at("ACCELERATE_FP8_OVERRIDE_DGRAD") == "False");
  CHECK(env.at("ACCELERATE_FP8_OVERRIDE_WGRAD") == "True");
  CHECK(env.at("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH") == "/nvme");
  CHECK(env.at("ACCELERATE_GRADIENT_CLIPPING") == "auto");
  CHECK(env.at("ACCELERATE_DYNAMO_BACKEND") == "EAGER");
  CHECK(env.at("ACCELERATE_CONFIG_DS_FIELDS") ==
        "zero_stage,offload_param_nvme_path,gradient_clipping,mixed_precision");
}

TEST_CASE("threads of several ranks are not all bound to the first cores") {
  CHECK(env_of("use_cpu: true", 1).count("KMP_AFFINITY") == 1);
  CHECK(env_of("use_cpu: true", 2).count("KMP_AFFINITY") == 0);
  CHECK(env_of("use_cpu: true", 2).at("KMP_BLOCKTIME") == "1");
}

TEST_CASE("a section that changes nothing in this job is named") {
  const auto notes = [](const std::string& text) { return parsed(text).notes; };
  using Notes = std::vector<std::string>;
  CHECK(notes("distributed_type: MULTI_GPU\nfsdp_config: {fsdp_version: 2}\nfp8_config: {backend: TE}") ==
        Notes{"cfg.yaml:3:1: fp8_config has no effect: mixed_precision is no",
              "cfg.yaml:2:1: fsdp_config has no effect: distributed_type is MULTI_GPU"});
  CHECK(env_of("distributed_type: MULTI_GPU\nfsdp_config: {fsdp_version: 2}").count("FSDP_VERSION") == 0);
  CHECK(notes("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}").empty());
}

TEST_CASE("what a section cannot say is refused at its place") {
  CHECK(message("distributed_type: FSDP\nfsdp_config:\n  fsdp_versoin: 2\n") ==
        "cfg.yaml:3:3: unknown key 'fsdp_versoin' in fsdp_config\n    3 |   fsdp_versoin: 2\n"
        "      |   ^ did you mean 'fsdp_version'?");
  CHECK(message("deepspeed_config: {zero_stage: 4}\n")
            .starts_with("cfg.yaml:1:32: deepspeed_config.zero_stage must be a whole number from 0 to 3, not '4'"));
  CHECK(message("deepspeed_config: {gradient_clipping: much}\n")
            .starts_with("cfg.yaml:1:39: deepspeed_config.gradient_clipping must be a number, or auto, not 'much'"));
  CHECK(message("fp8_config: {override_linear_precision: [true]}\n").find("must be three flags") != std::string::npos);
  CHECK(message("dynamo_backend: fast\n").find("dynamo_backend must be one of NO, EAGER") != std::string::npos);
  CHECK(message("distributed_type: FSDP\nfsdp_config: {fsdp_sync_module_states: no}\n")
            .starts_with("cfg.yaml:2:15: fsdp_sync_module_states is false, but rank 0 alone loads the weights"));
  CHECK(parse_config("distributed_type: FSDP\nfsdp_config: {sync_module_states: no, cpu_ram_efficient_loading: no}",
                     "c"));
  for (const char* type : {"XLA", "TPU", "MPS", "TP", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA",
                           "MULTI_HPU", "MULTI_NEURON"})
    CHECK(message(std::string("distributed_type: ") + type + "\n").find("is not supported: ") != std::string::npos);
}

TEST_CASE("DeepSpeed's host file and filters choose hosts and slots") {
  const std::string four = "a slots=4\nb slots=4\nc slots=2\n";
  const auto with = [](const std::string& more) {
    return "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_hostfile: hf" + more + "}\n";
  };
  CHECK(hosts_after(with(""), four) == "a:4 b:4 c:2");
  CHECK(hosts_after("num_processes: 6\n" + with(""), four) == "a:2 b:2 c:2");
  CHECK(hosts_after("num_processes: 9\n" + with(""), four) ==
        "a:4 b:4 c:2");  // more than c has: for the plan to refuse
  CHECK(hosts_after(with(", deepspeed_inclusion_filter: 'c@a:0,3'"), four) == "a:2=0,3 c:2");
  CHECK(hosts_after(with(", deepspeed_exclusion_filter: 'b@a:0'"), four) == "a:3=1,2,3 c:2");
  CHECK(hosts_after(with(", deepspeed_exclusion_filter: 'a:0,1,2,3'"), four) == "b:4 c:2");
  CHECK(hosts_after("gpu_ids: 4,5,6,7\n" + with(", deepspeed_inclusion_filter: 'a:1,2'"), four) == "a:2=5,6");
  const auto refused = [&](const std::string& filter) {
    return hosts_after(with(", deepspeed_inclusion_filter: '" + filter + "'"), four);
  };
  CHECK(refused("d").find("names 'd', which is not among the hosts") != std::string::npos);
  CHECK(refused("c:2").find("names slot 2 of 'c', which has 2") != std::string::npos);
  CHECK(refused("a:x").find("'a:x' is no host with slots") != std::string::npos);
  CHECK(refused("a@a").find("host 'a' is named twice") != std::string::npos);
  CHECK(refused("a@").find("'' is no host with slots") != std::string::npos);
  CHECK(hosts_after(with(", deepspeed_exclusion_filter: 'a@b@c'"), four).find("leaves no host") != std::string::npos);
}

TEST_CASE("llmlaunch.hosts win over a host file, and a filter holds for them") {
  const std::string own = "llmlaunch: {hosts: [{name: 'n[1-2]', slots: 2}]}\n";
  const std::string type = "distributed_type: DEEPSPEED\n";
  CHECK(hosts_after(type + "deepspeed_config: {deepspeed_hostfile: hf}\n" + own, "a slots=4\n") == "n1:2 n2:2");
  CHECK(hosts_after(type + "num_processes: 4\ndeepspeed_config: {deepspeed_exclusion_filter: n1}\n" + own) == "n2:2");
  CHECK(hosts_after(type + "deepspeed_config: {deepspeed_exclusion_filter: n1}\n").find("a filter without hosts") !=
        std::string::npos);
  CHECK(hosts_after("distributed_type: MULTI_CPU\nmpirun_config: {mpirun_hostfile: hf}\n", "a slots=2\nb slots=2\n") ==
        "a:2 b:2");
  CHECK(hosts_after("distributed_type: MULTI_GPU\nmpirun_config: {mpirun_hostfile: hf}\n", "a slots=2\n") == "");
}

}  // namespace launcher_accelerate_test
