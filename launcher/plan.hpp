/// \file
/// `Config` + command → `LaunchPlan`: which ranks run where, with which argv and environment. Pure: reads no file, no
/// clock and no environment but what it is given. `--dry-run` prints a plan; `run_job` carries it out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/agent/python_runs.hpp"
#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

struct RankPlan {
  Rank rank{};
  std::uint32_t local_rank = 0;
  EnvList env;  ///< beyond the host's: RANK, LOCAL_RANK, …
};

struct HostPlan {
  std::string name;
  NodeRank node_rank{};
  bool local = false;               ///< no hosts at all, or "localhost" without any setting of ssh: no ssh
  std::string address;              ///< where to connect; the name unless given. ~/.ssh/config is applied later
  std::optional<std::string> user;  ///< host's, else llmlaunch.ssh's, else unset
  std::optional<std::uint16_t> port;
  std::vector<std::string> identity_files;
  std::string workdir;  ///< empty: the login directory (ssh) or its llmlaunch's own; "~", "~/x": its home, and below it
  EnvList env;          ///< for all ranks of the host
  std::vector<RankPlan> ranks;
  std::optional<std::string> proxy_jump;  ///< host's, else llmlaunch.ssh's, else unset: ~/.ssh/config has it
  std::vector<std::string> setup;         ///< lines, for all hosts and then its own
  bool calls_in = false;                  ///< its own llmlaunch joins ours (call_desk.hpp); not local, and no ssh
  bool any_machine = false;               ///< with calls_in: machine 0 says which machine it is
  bool choose_omp_threads = false;        ///< OMP_NUM_THREADS is for its agent to choose, if the host itself sets none
};

/// A program of llmlaunch's own, or a library of it, that hosts get pushed when they lack it.
struct PushedProgram {
  std::string name;        ///< on the host: "llmlaunch-train", "libz.so.1"
  std::string local_path;  ///< on the head
};

/// No hosts are given: every machine has a `llmlaunch run` of its own, and this is one of them.
struct PerMachine {
  std::optional<std::uint32_t> machine_rank;  ///< 0 plans and leads, and its plan counts; unset: machine 0 says
  bool gives_places = false;                  ///< nobody said which machine this is: machine 0 gives out the places
  bool if_free = false;      ///< machine 0 by its address alone: when the port is taken, who has it is machine 0
  bool loopback = false;     ///< machine 0's address is each machine itself
  std::string bind_address;  ///< of machine 0; empty: all
  std::string token_from;    ///< token_source
};
/// Where the secret of these machines comes from, as --token-file, the variable and the file's key win: "the file '~/t'
/// (cfg.yaml:3:3)". Empty: nowhere. Reads nothing.
std::string token_source(const Config& config, const EnvList& environment);

/// Where machine 0 listens unless main_process_port says otherwise; accelerate's and torchrun's default.
inline constexpr std::uint16_t kDefaultMainPort = 29500;

/// What the hosts of a job owe each other.
enum class StartPolicy {
  gang,       ///< `run`: no rank starts before all hosts are ready, and the first failure stops everything
  each_host,  ///< `exec`: a host starts as soon as it is ready and concerns no other; one rank each, no rendezvous
};

struct LaunchPlan {
  std::string job_id;
  std::uint32_t world_size = 0;
  std::vector<HostPlan> hosts;
  std::vector<std::string> argv;         ///< the same on every rank; argv[0] is looked up in the host's PATH
  std::optional<PushedProgram> program;  ///< set for `train`: argv[0] becomes the pushed file
  std::string rendezvous_address;        ///< main_process_ip, or empty: the address by which each host sees the head
  std::uint16_t rendezvous_port = 0;     ///< 0: chosen
  RendezvousWay rendezvous_via = RendezvousWay::direct;
  bool use_agent_store = true;  ///< MASTER_ADDR:MASTER_PORT is the rendezvous, which serves PyTorch's store
  std::vector<std::string> store_allow_from;              ///< who may use it beside the hosts: addresses, networks
  agent::PythonRuns python = agent::PythonRuns::nothing;  ///< argv begins with a Python that llmlaunch has put there
  SshSettings ssh;
  Timeouts timeouts;
  ProcessSettings process;
  std::string log_dir;  ///< empty: no run directory is made
  LogSettings logs;
  std::vector<std::string> notes;    ///< what was asked for and is not done, each to be said aloud
  std::vector<std::string> secrets;  ///< values of the configuration that are shown nowhere
  StartPolicy policy = StartPolicy::gang;
  std::optional<PerMachine> per_machine;
  std::string run_id;  ///< --rdzv-id: the ranks' TORCHELASTIC_RUN_ID, and that of all machines; empty: the job id's
  // Of each_host alone:
  std::uint32_t hosts_at_once = 0;                        ///< connecting or running; 0: no limit beside ssh.fanout
  std::optional<std::chrono::milliseconds> host_timeout;  ///< for the command on each host, from its start
};

/// What `make_plan` needs beside the file.
struct Command {
  std::vector<std::string> argv;
  std::optional<PushedProgram> program;
  StartPolicy policy = StartPolicy::gang;  ///< each_host wants one slot on every host
  agent::PythonRuns python = agent::PythonRuns::nothing;
};
struct HeadFacts {
  std::string job_id;
  EnvList environment;  ///< the head's own; forward_env picks from it
  std::string cwd;
  std::vector<std::string> addresses = {};  ///< of this machine's interfaces, as digits; empty: not known
  std::string hostname = {};
  std::vector<std::string> main_addresses = {};  ///< what main_process_ip comes to; empty: not asked, or not known
  std::string home = {};                         ///< $HOME, or the user database's; empty: neither
};

/// The plan to be shown or recorded: `secrets` are masked wherever they stand in it.
LaunchPlan without_secrets(LaunchPlan plan);

/// Errors: `Errc::invalid_config` (num_processes not divisible, hosts × slots ≠ num_processes, duplicate host,
/// num_machines ≠ hosts …), each with file and key.
Result<LaunchPlan> make_plan(const Config& config, const Command& command, const HeadFacts& head);

/// The plan for scripts, as one JSON object; EVENTS.md has its fields. Secrets are masked. Ends with a newline.
std::string plan_json(const LaunchPlan& plan);

}  // namespace llmlaunch::launcher
