// A walk through /proc; see left_processes.hpp. Called by the agent that a head sends to look for the first one.
#include "launcher/agent/left_processes.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::chrono::milliseconds kLookAgain{20};
constexpr int kMostLooks = 50;

/// A process that is nobody's to read, or has ended meanwhile, has none.
std::string environment_of(const std::string& process) {
  std::ifstream file(process + "/environ", std::ios::binary);
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

}  // namespace

std::vector<pid_t> processes_with(const std::vector<std::string>& variables) {
  std::vector<pid_t> found;
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const auto pid = parse_whole<pid_t>(entry->d_name);
    if (!pid || *pid == ::getpid()) continue;
    const std::string process = std::string("/proc/") + entry->d_name;
    struct stat owner {};
    if (::stat(process.c_str(), &owner) != 0 || owner.st_uid != ::geteuid()) continue;
    if (has_all(environment_of(process), variables)) found.push_back(*pid);
  }
  ::closedir(directory);
  return found;
}

std::vector<pid_t> kill_processes_with(const std::vector<std::string>& variables) {
  std::vector<pid_t> found = processes_with(variables);
  for (int look = 0; !found.empty() && look < kMostLooks; ++look) {
    for (const pid_t pid : found) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(kLookAgain);
    found = processes_with(variables);
  }
  return found;
}

}  // namespace llmlaunch::launcher::agent
