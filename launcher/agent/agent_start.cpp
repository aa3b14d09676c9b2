// The part of `AgentLoop` between Prepare and running ranks: the checks of what their exec needs (exec_spec.cpp), and
// their start. Setup lines, which come between the two, are in agent_setup.cpp.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "launcher/agent/agent_loop.hpp"
#include "launcher/agent/exec_spec.hpp"
#include "launcher/agent/nccl_file.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// A TCP port that is free on all addresses; 0 when the host gives none, which rank 0's launcher then reports.
std::uint16_t free_tcp_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  if (!fd || ::bind(fd.value(), reinterpret_cast<sockaddr*>(&address), size) != 0) return 0;
  if (::getsockname(fd.value(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.sin_port);
}

}  // namespace

std::vector<std::string> AgentLoop::argv() const {
  const Prepare& prepare = state_.prepare();
  std::vector<std::string> words = prepare.argv;
  if (!words[0].starts_with(kPushedArgvPrefix)) return words;
  const std::string name = words[0].substr(kPushedArgvPrefix.size());
  for (const FileSpec& file : prepare.files)
    if (file.name == name) words[0] = cache_.path_of(file);
  return words;
}

// Where the files that come with a pushed program are: all but the program itself, each in a directory of its own.
std::vector<std::string> AgentLoop::library_directories() const {
  const Prepare& prepare = state_.prepare();
  std::vector<std::string> directories;
  if (!prepare.argv[0].starts_with(kPushedArgvPrefix)) return directories;
  const std::string name = prepare.argv[0].substr(kPushedArgvPrefix.size());
  for (const FileSpec& file : prepare.files) {
    if (file.name == name) continue;
    const std::string path = cache_.path_of(file);
    directories.push_back(path.substr(0, path.rfind('/')));
  }
  return directories;
}

Result<void> AgentLoop::check_rank(const RankSpec& rank, const Go& go, std::string& path,
                                   std::vector<std::string>& env) {
  const Prepare& prepare = state_.prepare();
  EnvList place;  // as after `cd`: programs that trust PWD must not find the agent's
  if (prepare.workdir.starts_with('/')) place.emplace_back("PWD", prepare.workdir);
  env = overlay_env(environment_, {&go.defaults, &place, &host_env_, &rank.env, &go.env});
  if (auto found = prepend_library_path(env, library_directories()); !found) return found;
  const std::vector<std::string> words = argv();
  if (auto fits = check_exec_size(words, env, exec_limits(conditions_.front().limits)); !fits) return fits;
  path = words[0];
  if (prepare.argv[0].starts_with(kPushedArgvPrefix)) return ok;
  const std::string directory = directory_of(prepare.workdir);
  const bool python = prepare.python != PythonRuns::nothing;
  auto program = python ? find_python(words[0], env, directory) : find_program(words[0], env, directory);
  if (!program) return program.error();
  path = *program;
  if (prepare.python == PythonRuns::script && words.size() > 2) return check_script(words[2], directory);
  return ok;
}

void AgentLoop::check_host() {
  const Prepare& prepare = state_.prepare();
  if (auto valid = check_prepare(prepare); !valid) return apply(state_.on_failed(valid.error()));
  if (auto workdir = check_workdir(prepare.workdir); !workdir) return apply(state_.on_failed(workdir.error()));
  host_env_ = prepare.env;
  const std::chrono::milliseconds limit(prepare.settings.start_timeout_ms / 2);
  if (prepare.ways.carry) {
    if (auto listening = begin_carrying(); !listening) return apply(state_.on_failed(listening.error()));
  } else if (!prepare.ways.addresses.empty()) {
    probe_.begin(prepare.ways, limit, now());
  }
  if (prepare.settings.setup.empty()) return check_ranks();
  begin_setup();
}

void AgentLoop::probe_head() {
  if (auto reach = probe_.look(now())) apply(state_.on_reached(std::move(*reach)));
}

// NCCL's own files are where an administrator names the network for all jobs of a host, and a variable would win.
EnvList AgentLoop::unset_defaults(const EnvList& defaults) const {
  EnvList unset;
  for (const auto& variable : defaults) {
    const bool given = find_env(environment_, variable.first) != nullptr ||
                       (variable.first == env::kNcclInterface && sets_nccl_interface(environment_));
    if (!given) unset.push_back(variable);
  }
  return unset;
}

// With the environment that the ranks will have: a setup line may have changed PATH.
void AgentLoop::check_ranks() {
  const Prepare& prepare = state_.prepare();
  if (auto settled = settle_conditions(); !settled) return apply(state_.on_failed(settled.error()));
  std::string path;
  std::vector<std::string> env;
  for (const RankSpec& rank : prepare.ranks)
    if (auto checked = check_rank(rank, {}, path, env); !checked) return apply(state_.on_failed(checked.error()));
  std::vector<std::uint32_t> missing;
  for (std::uint32_t i = 0; i < prepare.files.size(); ++i)
    if (cache_.find(prepare.files[i]).empty()) missing.push_back(i);
  apply(state_.on_checked(std::move(missing), free_tcp_port(), omp_threads_));
}

void AgentLoop::start_ranks(const Go& given) {
  const Prepare& prepare = state_.prepare();
  ranks_.resize(prepare.ranks.size());
  if (cgroup_.make(prepare.job_id, prepare.host))
    for (RankConditions& conditions : conditions_) {
      conditions.cgroup = cgroup_.directory();
      conditions.cgroup_entrance = cgroup_.entrance();
    }
  auto valid = check_env(given.env);
  if (valid) valid = check_env(given.defaults);
  const Go go{given.env, unset_defaults(given.defaults)};
  std::vector<std::string> words = argv();
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    std::string path;
    std::vector<std::string> env;
    const auto checked = valid ? check_rank(prepare.ranks[i], go, path, env) : valid;
    if (!checked) {
      apply(state_.on_start_failed(i, checked.error()));
      continue;
    }
    // By the name that was found: Python looks for itself in PATH under it, and has no sys.executable otherwise.
    if (prepare.python != PythonRuns::nothing && words[0].find('/') == std::string::npos)
      words[0] = path.substr(path.rfind('/') + 1);
    Result<RankProcess> process = start_rank(path, words, env, directory_of(prepare.workdir), conditions_[i]);
    if (!process) {
      apply(state_.on_start_failed(i, process.error()));
      continue;
    }
    ranks_[i].process = std::move(*process);
    ranks_[i].path = path;
    ranks_[i].started = ranks_[i].group_alive = true;
    state_.on_forked(i, path, std::chrono::steady_clock::now());
  }
  read_start_reports();
  open_inputs();
  check_children();  // a rank may have ended before the last one was started; none may have started
}

void AgentLoop::read_start_reports() {
  const std::string workdir = directory_of(state_.prepare().workdir);
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    if (!rank.process.report) continue;
    const auto outcome = exec_outcome(rank.process, rank.path, workdir);
    if (!outcome) continue;
    if (*outcome) {
      apply(state_.on_started(i, rank.process.pid));
      continue;
    }
    rank = {};
    rank.exited = true;
    apply(state_.on_start_failed(i, outcome->error()));
  }
}

// Its process ends when the kernel lets it, as an orphan that came to us; only its group is still looked after.
void AgentLoop::abandon_start(Rank& rank) {
  const pid_t pid = rank.process.pid;
  rank.process = {};
  rank.process.pid = pid;
  rank.started = false;
  rank.exited = true;
}

}  // namespace llmlaunch::launcher::agent
