// The rows: what a configuration file may say. A new key begins here; the parser knows it from here, and reads it in
// config.cpp or config_llmlaunch.cpp. Order is that of the reference page.
#include <array>

#include "launcher/accelerate_settings.hpp"
#include "launcher/config_schema.hpp"
#include "launcher/log_settings.hpp"

namespace llmlaunch::launcher {
namespace {

using Kind = SettingKind;

constexpr std::uint64_t kMostRanks = 2'147'483'647;
constexpr std::string_view kTpu = "of TPU pods; no effect, which is said";
constexpr std::string_view kTpuQuiet = "of TPU pods; no effect";
constexpr std::string_view kLimitMeaning =
    "soft limit of the ranks, as ulimit knows it; one above a host's hard limit stops the launch";
constexpr std::string_view kHostOverAll = "for this host instead of the one for all";

constexpr Setting limit(std::string_view path) {
  return {path, Kind::limit, kLimitMeaning, "", "unlimited"};
}
constexpr Setting section(std::string_view path, std::string_view meaning) {
  return {path, Kind::section, meaning};
}
constexpr Setting port(std::string_view path, std::string_view meaning, std::string_view otherwise) {
  return {path, Kind::integer, meaning, otherwise, "", 1, 65'535};
}

constexpr auto kSettings = std::to_array<Setting>({
    // accelerate's own.
    {"compute_environment", Kind::choice, "where the job runs; SageMaker is refused", "LOCAL_MACHINE", "LOCAL_MACHINE"},
    {"distributed_type", Kind::choice, "what the ranks compute on; NO and MULTI_CPU: no GPU is given out", "",
     "NO MULTI_CPU MULTI_GPU DEEPSPEED FSDP MEGATRON_LM"},
    {"mixed_precision", Kind::choice, "what the ranks find in ACCELERATE_MIXED_PRECISION", "no", "no fp16 bf16 fp8"},
    {"use_cpu", Kind::boolean, "the ranks find ACCELERATE_USE_CPU=true, and no GPU is given out", "false"},
    {"debug", Kind::boolean, "the ranks find ACCELERATE_DEBUG_MODE=true", "false"},
    {"num_processes", Kind::integer, "ranks over all hosts together; -1 is as good as not given",
     "the slots of the hosts, or one rank on each", "-1", 1, kMostRanks},
    {"num_machines", Kind::integer,
     "must be the number of hosts; without hosts each machine is started by itself, which needs main_process_ip", "",
     "", 1, kMostRanks},
    {"machine_rank", Kind::integer,
     "without hosts: which machine this is, or not given: that of main_process_ip is 0, and it gives out the others; "
     "with "
     "hosts only checked, as their order is that of the ranks",
     "0", "", 0, kMostRanks},
    {"gpu_ids", Kind::texts, "GPUs for the ranks of each host: all, numbers or UUIDs",
     "as many as a host has slots in a GPU job, else all", "all"},
    {"main_process_ip", Kind::text, "address or name by which the hosts reach the head, where the rendezvous is",
     "the address of the head that each host reaches, as it finds by a probe"},
    {"main_process_port", Kind::integer,
     "port of the rendezvous on the head; 0: a free one, or 29500 where each machine is started by itself", "0", "", 0,
     65'535},
    {"rdzv_backend", Kind::text, "no effect: llmlaunch serves the rendezvous itself, for every backend", "static"},
    {"same_network", Kind::boolean,
     "no effect: each host is told an address of the head that it reaches, or main_process_ip", ""},
    {"main_training_function", Kind::any, kTpuQuiet, "main"},
    {"enable_cpu_affinity", Kind::boolean, "true is cpu_bind: gpu", "false"},
    {"downcast_bf16", Kind::any, kTpuQuiet, ""},
    section("fp8_config", "for ranks that compute in 8 bits (mixed_precision: fp8)"),
    section("deepspeed_config", "for ranks of DeepSpeed, and their hosts"),
    section("fsdp_config", "for ranks of FSDP"),
    section("parallelism_config", "how ranks of FSDP or DeepSpeed share a model"),
    section("megatron_lm_config", "for ranks of Megatron-LM"),
    section("mpirun_config", "hosts of a job on CPUs"),
    section("dynamo_config", "how the ranks compile a model"),
    section("ipex_config", "of accelerate before 1.10"),
    section("tp_config", "of accelerate 1.3 to 1.9"),
    {"tpu_name", Kind::any, kTpu},
    {"tpu_zone", Kind::any, kTpu},
    {"command_file", Kind::any, kTpu},
    {"commands", Kind::any, kTpu},
    {"tpu_vm", Kind::any, kTpu},
    {"tpu_env", Kind::any, kTpu},
    {"tpu_use_cluster", Kind::any, kTpuQuiet},
    {"tpu_use_sudo", Kind::any, kTpuQuiet},
    {"fp16", Kind::boolean, "before accelerate 0.8: true is mixed_precision: fp16", "false"},
    {"dynamo_backend", Kind::text, "before accelerate 0.15: dynamo_config.dynamo_backend", "NO"},
    section("llmlaunch", "what accelerate has no words for"),

    {"llmlaunch.include", Kind::texts,
     "configuration files, relative to this one, that count where this one says nothing; a later one wins"},
    {"llmlaunch.hosts", Kind::hosts,
     "the machines, in the order of their ranks: names, ranges such as gpu[01-16], or mappings", "this machine alone"},
    {"llmlaunch.hosts[].name", Kind::text, "name or range, also user@name; stands in logs and messages"},
    {"llmlaunch.hosts[].host", Kind::text, "another word for name", "", "", 0, 0, "name"},
    {"llmlaunch.hosts[].address", Kind::text, "where to connect instead of the name; a range gives one to each host",
     "the name"},
    {"llmlaunch.hosts[].user", Kind::text, "who signs in", "llmlaunch.ssh.user"},
    port("llmlaunch.hosts[].port", "where its sshd listens", "llmlaunch.ssh.port"),
    {"llmlaunch.hosts[].slots", Kind::integer, "ranks on this host", "an equal share of num_processes", "", 1,
     kMaxSlots},
    {"llmlaunch.hosts[].identity_file", Kind::texts, "private keys for this host", "llmlaunch.ssh.identity_file"},
    {"llmlaunch.hosts[].identity_files", Kind::texts, "private keys for this host, after those of identity_file", "",
     "", 0, 0, "identity_file"},
    {"llmlaunch.hosts[].workdir", Kind::text, kHostOverAll, "llmlaunch.workdir"},
    {"llmlaunch.hosts[].env", Kind::variables, "over the variables for all hosts"},
    {"llmlaunch.hosts[].rank_env", Kind::variables, "over the variables for all hosts"},
    {"llmlaunch.hosts[].setup", Kind::texts, "lines of shell after those for all hosts"},
    {"llmlaunch.hosts[].gpu_ids", Kind::texts, kHostOverAll, "gpu_ids", "all"},
    {"llmlaunch.hosts[].proxy_jump", Kind::text, kHostOverAll, "llmlaunch.ssh.proxy_jump"},

    section("llmlaunch.ssh", "how the hosts are reached; what is not given comes from the ssh configuration"),
    {"llmlaunch.ssh.user", Kind::text, "who signs in", "User of ~/.ssh/config, else the own name"},
    port("llmlaunch.ssh.port", "where the sshds listen", "Port of ~/.ssh/config, else 22"),
    {"llmlaunch.ssh.identity_file", Kind::texts, "private keys", "IdentityFile of ~/.ssh/config, else ssh's own"},
    {"llmlaunch.ssh.identity_files", Kind::texts, "private keys, after those of identity_file", "", "", 0, 0,
     "identity_file"},
    {"llmlaunch.ssh.config_file", Kind::text, "instead of ~/.ssh/config; none reads no file", "~/.ssh/config"},
    {"llmlaunch.ssh.known_hosts_file", Kind::texts, "host keys; the first file takes new ones",
     "UserKnownHostsFile of ~/.ssh/config, else ssh's own"},
    {"llmlaunch.ssh.known_hosts_files", Kind::texts, "host keys, after those of known_hosts_file", "", "", 0, 0,
     "known_hosts_file"},
    {"llmlaunch.ssh.host_key_policy", Kind::choice,
     "what is done with a host key that no file has; a changed one is refused",
     "StrictHostKeyChecking of ~/.ssh/config, else strict", "strict accept-new accept_new"},
    {"llmlaunch.ssh.use_agent", Kind::boolean, "ask the ssh-agent of $SSH_AUTH_SOCK", "true"},
    {"llmlaunch.ssh.fanout", Kind::integer, "hosts that connect at the same time", "as many as the head keeps up with",
     "", 1, kMaxFanout},
    {"llmlaunch.ssh.proxy_jump", Kind::text, "the way to all hosts: me@gate:2222,inner; none: directly",
     "ProxyJump or ProxyCommand of ~/.ssh/config"},

    {"llmlaunch.env", Kind::variables, "variables of all ranks"},
    {"llmlaunch.forward_env", Kind::texts,
     "names or patterns taken from the environment of llmlaunch itself; !NAME takes one away again"},
    {"llmlaunch.rank_env", Kind::variables,
     "variables with the rank's place in them: {rank} {local_rank} {node_rank} {world_size} {host}"},
    {"llmlaunch.setup", Kind::texts,
     "lines for a POSIX shell, once on each host before its ranks, which inherit what it sets"},
    section("llmlaunch.limits", "soft limits of the ranks"),
    limit("llmlaunch.limits.as"),
    limit("llmlaunch.limits.core"),
    limit("llmlaunch.limits.cpu"),
    limit("llmlaunch.limits.data"),
    limit("llmlaunch.limits.fsize"),
    limit("llmlaunch.limits.locks"),
    limit("llmlaunch.limits.memlock"),
    limit("llmlaunch.limits.msgqueue"),
    limit("llmlaunch.limits.nofile"),
    limit("llmlaunch.limits.nproc"),
    limit("llmlaunch.limits.rss"),
    limit("llmlaunch.limits.rtprio"),
    limit("llmlaunch.limits.sigpending"),
    limit("llmlaunch.limits.stack"),
    {"llmlaunch.umask", Kind::octal, "for files that the ranks make", "the login's", "", 0, 0777},
    {"llmlaunch.cpu_bind", Kind::choice, "which cores each rank gets for itself", "none", "none core numa gpu"},
    {"llmlaunch.stdin", Kind::choice, "which ranks read llmlaunch's stdin", "none", "none 0 all"},
    {"llmlaunch.forward_signals", Kind::texts, "signals that go to the ranks instead of stopping the job",
     "USR1 and USR2, which always do"},
    {"llmlaunch.groups", Kind::groups, "names for @name in host expressions"},
    {"llmlaunch.workdir", Kind::text, "where the ranks start; ~/x is below the home directory",
     "the login directory; on this machine the current one"},
    {"llmlaunch.python", Kind::text, "what runs .py files and modules on the hosts", "python3, or python, of PATH"},
    {"llmlaunch.token_file", Kind::text,
     "where each machine is started by itself: a file with the secret of them all, which nobody else may read",
     "the variable LLMLAUNCH_JOIN_TOKEN"},
    {"llmlaunch.log_dir", Kind::text, "where each run makes its directory, on the head", "llmlaunch-logs"},

    section("llmlaunch.logs", "the ranks' lines, on the console and in the run directory"),
    {"llmlaunch.logs.prefix", Kind::text,
     "before each line: text with {host} {rank} {local_rank} {node_rank} {world_size} {stream} {time}; none for "
     "nothing",
     "[rank 3 gpu01]"},
    {"llmlaunch.logs.color", Kind::choice, "colours on the console; auto: on a terminal", "auto", "auto always never"},
    {"llmlaunch.logs.color_by", Kind::choice, "whose lines share a colour", "host", "host rank"},
    {"llmlaunch.logs.ranks", Kind::texts, "whose lines are shown: 0,8-15; the files keep all", "all"},
    {"llmlaunch.logs.fold_lines", Kind::boolean, "a line that many ranks write at once is shown one time", "false"},
    {"llmlaunch.logs.updates_per_second", Kind::integer,
     "how often a rank's progress bar is shown, unless a terminal draws it in its place; 0: its end alone", "1", "", 0,
     kMaxUpdatesPerSecond},
    {"llmlaunch.logs.per_rank", Kind::boolean, "files for each rank", "true"},
    {"llmlaunch.logs.merged", Kind::boolean, "merged.log with the lines of all ranks", "true"},
    {"llmlaunch.logs.max_file_bytes", Kind::size, "a full file is closed and a new one begun; 0: no limit", "0", "0",
     kMinFileBytes},
    {"llmlaunch.logs.keep", Kind::integer, "full files that stay beside the newest", "5", "", 0, kMaxKeep},
    {"llmlaunch.logs.keep_runs", Kind::text,
     "run directories that stay when a new run begins: a number of runs, or an age such as 30d or 12h", "all"},

    section("llmlaunch.rendezvous", "where the ranks meet, and the store that PyTorch programs use"),
    {"llmlaunch.rendezvous.via", Kind::choice,
     "how ranks come to the head; ssh: by a port of 127.0.0.1 on each host and the ssh session, where no other port is "
     "open",
     "direct", "direct ssh"},
    {"llmlaunch.rendezvous.use_agent_store", Kind::boolean,
     "the head serves PyTorch's store at the rendezvous port; false: rank 0 makes it, on a free port of its host",
     "true"},
    {"llmlaunch.rendezvous.allow_from", Kind::texts,
     "addresses or networks (10.1.0.0/16) from which ranks come beside those of the hosts: their NAT",
     "the hosts' own addresses"},

    section("llmlaunch.timeouts", "how long each step may take"),
    {"llmlaunch.timeouts.connect", Kind::duration, "for each of TCP, key exchange and sign-in", "10s", "", 1},
    {"llmlaunch.timeouts.start", Kind::duration,
     "until a host that signed in is ready, and again for the exec of each rank", "60s", "", 1},
    {"llmlaunch.timeouts.rendezvous", Kind::duration, "until all ranks have joined", "300s", "", 1},
    {"llmlaunch.timeouts.grace", Kind::duration, "between the first signal and SIGKILL", "10s", "", 0},
    {"llmlaunch.timeouts.head", Kind::duration, "how long a host works on without any sign of the head", "15s", "",
     kShortestHeadMs},
    {"llmlaunch.timeouts.run", Kind::duration, "for the whole job", "no limit", "", 1},
});

}  // namespace

std::span<const Setting> settings() {
  static const std::vector<Setting> all = [] {
    std::vector<Setting> table;
    for (const Setting& setting : kSettings) {
      table.push_back(setting);
      if (setting.kind == Kind::section) append_section(setting.path, table);
    }
    return table;
  }();
  return all;
}

}  // namespace llmlaunch::launcher
