/// \file
/// YAML → checked `Config`. accelerate's spellings (`num_processes`, `machine_rank`, `main_process_ip`) stop here; the
/// rest of the program says world_size, node_rank, rendezvous. Used by the cli and by `make_plan`.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/log_settings.hpp"
#include "launcher/process_settings.hpp"
#include "rendezvous/base/error.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Environment variables in the order written. A later entry wins over an earlier one of the same name.
using EnvList = std::vector<std::pair<std::string, std::string>>;

/// Does the name of a variable or flag say that the value is a secret: *TOKEN*, *KEY*, *SECRET*, *PASSWORD*, *PASSWD*,
/// *PASSPHRASE*, *CREDENTIAL*, *AUTH*, *PASS, *PWD, in any case? A TOKENIZER, an AUTHOR, PWD and OLDPWD are none. Such
/// values are masked in everything printed.
bool names_secret(std::string_view variable);

/// What stands for a secret in what is printed or recorded.
inline constexpr std::string_view kMask = "********";
/// A command for people to read: the values of `--hf_token=x`, `--hf_token x` and `HF_TOKEN=x` are masked, also inside
/// a line for a shell.
std::vector<std::string> without_secrets(std::vector<std::string> argv);

/// A variable that every rank gets from llmlaunch (RANK, MASTER_ADDR, LLMLAUNCH_TOKEN …): not for `env` to set, and
/// never forwarded from the head.
bool set_by_llmlaunch(std::string_view variable);
/// One of these that says what RANK, WORLD_SIZE and the like say, for workers of other launchers.
bool repeats_place(std::string_view variable);

/// "90", "1.5", "500ms", "30s", "5m", "2h". Nothing for everything else, negative or longer than a year.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

/// What to do with a host key that no known_hosts file has. A key that changed or is revoked is always refused.
enum class HostKeyPolicy { strict, accept_new };

/// `llmlaunch.ssh`. Unset values come from ~/.ssh/config, then from ssh's own defaults.
struct SshSettings {
  std::optional<std::string> user;
  std::optional<std::uint16_t> port;
  std::vector<std::string> identity_files;
  std::optional<std::string> config_file;      ///< instead of ~/.ssh/config; "none" reads no file
  std::vector<std::string> known_hosts_files;  ///< instead of UserKnownHostsFile; the first one takes new keys
  std::optional<HostKeyPolicy> host_key_policy;
  bool use_agent = true;  ///< ask the ssh-agent of $SSH_AUTH_SOCK
  std::optional<std::uint32_t>
      fanout;  ///< hosts that connect at the same time; unset: as the head keeps up (fan_out.hpp)
  /// The way to all hosts, checked (proxy_jump.hpp); "none": directly.
  std::optional<std::string> proxy_jump;
};

/// `llmlaunch.timeouts`, each a deadline for one step.
struct Timeouts {
  std::chrono::milliseconds connect{10'000};      ///< TCP, key exchange and authentication, each
  std::chrono::milliseconds start{60'000};        ///< from the authenticated session to the agent's ready
  std::chrono::milliseconds rendezvous{300'000};  ///< until all ranks have joined, for the ranks that join
  std::chrono::milliseconds grace{10'000};        ///< between the first signal and SIGKILL
  std::chrono::milliseconds head{15'000};         ///< agent without any byte from the head → stops its ranks
  std::optional<std::chrono::milliseconds> run;   ///< the whole job, `--timeout`
};

/// How ranks come to the rendezvous on the head.
enum class RendezvousWay {
  direct,  ///< to its port, at an address that their host reaches
  ssh,     ///< to a port of 127.0.0.1 on their host, from where the host's ssh session carries them
};

/// One host, after ranges like gpu[01-16] are expanded.
struct HostConfig {
  std::string name;                    ///< as written; shown in logs and messages
  std::optional<std::string> address;  ///< where to connect instead of `name`
  std::optional<std::string> user;
  std::optional<std::uint16_t> port;
  std::optional<std::uint32_t> slots;  ///< ranks on this host; unset: an equal share of num_processes
  std::vector<std::string> identity_files;
  std::optional<std::string> workdir;
  EnvList env;
  std::optional<std::string> proxy_jump;  ///< as in SshSettings
  EnvList rank_env;                       ///< over the one for all hosts
  std::vector<std::string> setup;         ///< after those for all hosts
  std::optional<std::string> gpu_ids;     ///< instead of the file's
  std::string where;                      ///< "cfg.yaml:14:7", for messages; empty when not from a file
};

/// What gave a value: a file (also one that another includes), a variable, --set, or an option of its own.
enum class ConfigOrigin { file, variable, set, option };

/// Where a key was given. Code asks for the origin, the text is for messages.
struct ConfigPlace {
  std::string text;  ///< "cfg.yaml:5:1", "LLMLAUNCH_NUM_PROCESSES", "--set num_processes", "--nnodes"
  ConfigOrigin origin = ConfigOrigin::file;
};

/// One value as it was read, for people: --explain.
struct ConfigValue {
  std::string path;   ///< "llmlaunch.ssh.port", "llmlaunch.env.NCCL_DEBUG"
  std::string text;   ///< as YAML would have it on one line; secrets are masked
  std::string where;  ///< "cfg.yaml:5:1", "--set num_processes", "LLMLAUNCH_NUM_PROCESSES"
};

struct Config {
  std::string file;  ///< for messages; empty when there is none
  // accelerate's top-level keys
  std::string distributed_type;
  std::optional<std::uint32_t> num_processes;  ///< ranks over all hosts together
  std::optional<std::uint32_t> num_machines;   ///< checked only: with hosts, must be their number
  std::uint32_t machine_rank = 0;              ///< with hosts checked only: rank order is host order
  std::optional<std::string> main_process_ip;
  std::optional<bool>
      is_host;         ///< --rdzv-conf: this machine is main_process_ip's, or it is not; unset: it is looked up
  std::string run_id;  ///< --rdzv-id; empty: not given
  std::string rdzv_backend = "static";  ///< for note_of_backend alone
  std::uint16_t main_process_port = 0;  ///< the rendezvous port; 0: the head chooses
  std::string mixed_precision = "no";
  std::optional<std::string> gpu_ids;  ///< unset: as many as a host's slots in a GPU job, else all
  bool use_cpu = false;
  bool debug = false;
  bool enable_cpu_affinity = false;
  /// Of accelerate's sections, by the names of accelerate_settings.hpp: "fsdp_config.fsdp_version" → "2".
  std::map<std::string, std::string, std::less<>> accelerate;
  std::vector<std::string> deepspeed_fields;  ///< the keys of deepspeed_config, as they stand there
  bool mixed_precision_given = false;
  // llmlaunch:
  std::vector<HostConfig> hosts;                           ///< empty: this machine alone
  std::map<std::string, std::string, std::less<>> groups;  ///< name → host expression, for @name
  SshSettings ssh;
  EnvList env;
  EnvList rank_env;  ///< values are templates, checked: env_template.hpp
  /// Names or patterns (HF_*) taken from the head's environment, but for those that a "!…" takes away.
  std::vector<std::string> forward_env;
  ProcessSettings process;
  RendezvousWay rendezvous_via = RendezvousWay::direct;
  bool use_agent_store = true;                ///< PyTorch's store is the head's; else rank 0 makes it
  std::vector<std::string> store_allow_from;  ///< addresses and networks, checked (rendezvous/address_list.hpp)
  std::optional<std::string> token_file;      ///< of machines that are started one by one
  std::optional<std::string> python;  ///< runs .py files and modules; unset: python3, or python, of the host's PATH
  std::optional<std::string> workdir;
  std::string log_dir = "llmlaunch-logs";
  LogSettings logs;
  Timeouts timeouts;

  std::map<std::string, ConfigPlace, std::less<>> places;  ///< by key: "num_processes"
  std::vector<std::string> notes;    ///< what the file asks for and does not get, each to be said aloud
  std::vector<ConfigValue> values;   ///< all that was given, in the table's order as far as it has one
  std::vector<std::string> secrets;  ///< what ${HF_TOKEN} and the like came to: shown nowhere
};

/// No hosts, several machines, and an address where the first one is: every machine is started by itself.
bool runs_per_machine(const Config& config);
/// What is said of a machine_rank above 0 where hosts are given.
std::string note_of_machine_rank(const Config& config);
/// What is said of an rdzv_backend other than static; nothing for c10d where machines are started one by one, as one of
/// them has the store then.
std::optional<std::string> note_of_backend(const Config& config);

/// A key of the file as the command line gives it: "mixed_precision", "fsdp_config.fsdp_version". It wins over the
/// file.
struct Override {
  std::string key;
  std::string value;
  std::string option;  ///< as it was typed, for messages: "--mixed_precision"
};

/// What a configuration is made of. The command line wins over variables, and these over the file.
struct ConfigInput {
  std::string path;                    ///< empty: no file
  std::vector<std::string> settings;   ///< of --set: "llmlaunch.ssh.port=2222"; a later one wins
  EnvList environment;                 ///< for LLMLAUNCH_SSH_PORT and ${VAR}
  std::vector<Override> overrides{};   ///< of options that stand for a key; over all others
  bool variables_are_settings = true;  ///< false: `environment` is for ${VAR} alone, as where a file is changed
};

/// The text of a file that `include:` names, by its path.
using ConfigFileReader = std::function<Result<std::string>(const std::string& path)>;

/// The text with everything that is in `secrets` masked. What is shorter than 4 bytes is masked as a whole text alone.
std::string without_values(std::string text, const std::vector<std::string>& secrets);
Error without_values(Error error, const std::vector<std::string>& secrets);

/// Warnings: variables of the environment that look like a setting ("LLMLAUNCH_SSH_PROT") and are none.
std::vector<std::string> misspelt_variables(const EnvList& environment);

/// A host as written in a list: "user@name" and "[2001:db8::1]:2222" are taken apart.
HostConfig host_named(std::string_view written);

/// Reads and checks a file. Every error carries file:line:column, the line with a caret, and "did you mean" where a
/// known key is near. `Errc::not_found` or `Errc::io` when it cannot be read, else `Errc::invalid_config`.
Result<Config> load_config(const std::string& path);

/// The same with --set, variables and references.
Result<Config> load_config(const ConfigInput& input);

/// The same of a text that stands, or is to stand, at `input.path`: included files are read, it is not.
Result<Config> load_config(const std::string& text, const ConfigInput& input);

/// The same from text; `name` stands in messages. No file is touched.
Result<Config> parse_config(const std::string& text, const std::string& name);
/// The same; `input.path` is the name, and included files come from `read`.
Result<Config> parse_config(const std::string& text, const ConfigInput& input, const ConfigFileReader& read);

}  // namespace llmlaunch::launcher
