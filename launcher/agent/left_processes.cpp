// A walk through /proc; see left_processes.hpp. Called by the agent that a head sends to look for the first one.
#include "launcher/agent/left_processes.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "launcher/agent/process.hpp"
#include "rendezvous/base/unique_fd.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::chrono::milliseconds kLookAgain{20};
constexpr std::chrono::seconds kPatience{1};

std::string proc_file(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + name;
}

/// A process that is nobody's to read, or has ended meanwhile, has none.
std::string environment_of(pid_t pid) {
  std::ifstream file(proc_file(pid, "/environ"), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool has_all(std::string_view environment, const std::vector<std::string>& variables) {
  std::unordered_set<std::string_view> found;
  while (!environment.empty()) {
    const std::string_view one = environment.substr(0, environment.find('\0'));
    found.insert(one);
    environment.remove_prefix(std::min(one.size() + 1, environment.size()));
  }
  return std::all_of(variables.begin(), variables.end(), [&](const std::string& one) { return found.contains(one); });
}

/// Installed it is llmlaunch-agent, pushed agent-HASH. Another program of such a name keeps what is below it alive.
bool is_agent(pid_t pid) {
  std::ifstream file(proc_file(pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return name.starts_with("llmlaunch-agent") || name.starts_with("agent-");
}

bool has_agent_above(pid_t pid) {
  constexpr int kMostGenerations = 1000;
  for (int i = 0; i < kMostGenerations && pid > 1; ++i) {
    pid = parent_of(pid);
    if (pid > 1 && is_agent(pid)) return true;
  }
  return false;
}

bool is_orphan_with(pid_t pid, const std::vector<std::string>& variables) {
  struct stat owner {};
  if (::stat(proc_file(pid, "").c_str(), &owner) != 0 || owner.st_uid != ::geteuid()) return false;
  return has_all(environment_of(pid), variables) && !has_agent_above(pid);
}

/// Not another process that has got the number meanwhile.
void kill_orphan(pid_t pid, const std::vector<std::string>& variables) {
#if defined(SYS_pidfd_open) && defined(SYS_pidfd_send_signal)
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process) {
    if (is_orphan_with(pid, variables)) ::syscall(SYS_pidfd_send_signal, process.value(), SIGKILL, nullptr, 0);
    return;
  }
#endif
  if (is_orphan_with(pid, variables)) ::kill(pid, SIGKILL);  // kernels before 5.3
}

}  // namespace

Result<std::vector<pid_t>> orphans_with(const std::vector<std::string>& variables) {
  std::vector<pid_t> found;
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) return system_error(errno, "open /proc");
  while (const dirent* entry = ::readdir(directory)) {
    const auto pid = parse_whole<pid_t>(entry->d_name);
    if (pid && *pid != ::getpid() && is_orphan_with(*pid, variables)) found.push_back(*pid);
  }
  ::closedir(directory);
  return found;
}

Result<std::vector<pid_t>> kill_orphans_with(const std::vector<std::string>& variables) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  auto found = orphans_with(variables);
  while (found && !found->empty() && std::chrono::steady_clock::now() < deadline) {
    for (const pid_t pid : *found) kill_orphan(pid, variables);
    std::this_thread::sleep_for(kLookAgain);
    found = orphans_with(variables);
  }
  return found;
}

}  // namespace llmlaunch::launcher::agent
