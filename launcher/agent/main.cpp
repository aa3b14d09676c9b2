// llmlaunch-agent: started by llmlaunch on every host, through ssh or a socket pair, with stdin and stdout as the
// control path. Sets up the process; the work is in agent_loop.cpp.
#include <limits.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/agent_loop.hpp"
#include "launcher/agent/guard.hpp"
#include "launcher/agent/process.hpp"
#include "rendezvous/base/write_all.hpp"

extern char** environ;

namespace {

using llmlaunch::launcher::agent::kProtocolVersion;

constexpr int kExitUsage = 64;
constexpr int kExitOsError = 71;

void say(int fd, const std::string& text) {
  (void)llmlaunch::write_all(fd, text);  // unless nobody is left who could be told
}

int usage(const std::string& what) {
  say(STDERR_FILENO,
      "llmlaunch-agent: error: " + what + "\n   hint: llmlaunch starts this program; use `llmlaunch run`\n");
  return kExitUsage;
}

std::string own_directory() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof(path));
  if (size <= 0) return {};
  const std::string_view text(path, static_cast<std::size_t>(size));
  return std::string(text.substr(0, text.rfind('/')));
}

std::vector<std::string> environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    say(STDOUT_FILENO, "llmlaunch-agent " LLMLAUNCH_VERSION " (protocol " + std::to_string(kProtocolVersion) + ")\n");
    return 0;
  }
  if (argc > 1) return usage(std::string("unexpected argument '") + argv[1] + "'");
  if (::isatty(STDIN_FILENO) == 1) return usage("stdin is a terminal, not a connection to llmlaunch");

  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit of ulimit -f is an error like that of a full disk
  auto ready = llmlaunch::launcher::agent::close_inherited_descriptors();
  const llmlaunch::launcher::agent::CgroupPath cgroup;
  if (ready) ready = llmlaunch::launcher::agent::fork_under_guard(cgroup);
  if (!ready) {
    say(STDERR_FILENO, "llmlaunch-agent: error: " + to_string(ready.error()) + "\n");
    return kExitOsError;
  }
  ::setsid();  // never fails: the process was just forked and leads no group

  llmlaunch::launcher::agent::AgentLoop loop(environment(), own_directory(), cgroup);
  return loop.run();
}
