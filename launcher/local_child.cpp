// Forks the agent of this machine; see local_child.hpp.
#include "launcher/local_child.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <optional>

#include "launcher/descriptor_limit.hpp"
#include "rendezvous/base/child_signals.hpp"

namespace llmlaunch::launcher {
namespace {

// To the parent: 0 when only the exec is left to do, then the errno of an exec that failed.
void report_step(int report, int error) {
  [[maybe_unused]] const ssize_t written = ::write(report, &error, sizeof(error));
}

// What happens between vfork and exec, in the parent's memory: system calls and nothing else. All signals are blocked
// until none has a handler any more: that would run in the head's memory, and tell it twice.
[[noreturn]] void become_agent(const char* path, int channel, int errors, int report) {
  // A group of its own: Ctrl-C at the terminal is for the head, which decides what the ranks get to know of it.
  ::setpgid(0, 0);
  ::dup2(channel, STDIN_FILENO);
  ::dup2(channel, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  DescriptorLimit::restore_in_child();
  reset_signals(IgnoredSignals::kept);
  report_step(report, 0);
  char* const argv[] = {const_cast<char*>(path), nullptr};
  ::execv(path, argv);
  report_step(report, errno);
  ::_exit(127);
}

// What the child reported until its exec, or its end, closed the pipe: nothing when it is the agent now.
std::optional<std::string> failure_of(int report) {
  int steps[2] = {0, 0};
  std::size_t size = 0;
  while (size < sizeof(steps)) {
    const ssize_t got = ::read(report, reinterpret_cast<char*>(steps) + size, sizeof(steps) - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size < sizeof(int)) return "its process ended before it could be executed";
  if (size < sizeof(steps)) return std::nullopt;
  return std::error_code(steps[1], std::generic_category()).message();
}

void close_all(std::initializer_list<int> descriptors) {
  for (const int fd : descriptors)
    if (fd >= 0) ::close(fd);
}

}  // namespace

Result<LocalChild> fork_local_agent(const std::string& path) {
  int channel[2] = {-1, -1}, errors[2] = {-1, -1}, report[2] = {-1, -1};
  const auto fail = [&](const char* call) {
    const Error error = system_error(errno, call);
    close_all({channel[0], channel[1], errors[0], errors[1], report[0], report[1]});
    return error;
  };
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0) return fail("socketpair");
  if (::pipe2(errors, O_CLOEXEC) != 0 || ::pipe2(report, O_CLOEXEC) != 0) return fail("pipe");
  sigset_t all, mask;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask);
  // Not fork, which copies the head's page tables, once for each of a thousand simulated hosts.
  const pid_t pid = ::vfork();
  if (pid == 0) become_agent(path.c_str(), channel[1], errors[1], report[1]);
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (pid < 0) {
    Error error = fail("vfork");
    if (error.code == std::errc::resource_unavailable_try_again)
      error.hint = "too many processes of this user on this machine? See ulimit -u and the cgroup's pids.max";
    return error;
  }
  close_all({channel[1], errors[1], report[1]});
  const std::optional<std::string> failure = failure_of(report[0]);
  ::close(report[0]);
  if (!failure) return LocalChild{pid, channel[0], errors[0]};
  close_all({channel[0], errors[0]});
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return make_error(Errc::no_program, "the agent '" + path + "' cannot be started: " + *failure, {},
                    "llmlaunch-agent is installed beside llmlaunch; build or install both");
}

}  // namespace llmlaunch::launcher
