// The watchman; see guard.hpp. Both processes are subreapers: orphans go to the agent while it lives, then to the
// watchman. If either dies, the other ends the job. Only `kill -9` of both at once leaves what the ranks have started
// behind, until the head comes again (left_processes.hpp); the ranks themselves have PR_SET_PDEATHSIG.
#include "launcher/agent/guard.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "launcher/agent/process.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr int kExitAgentKilled = 70;
constexpr timespec kGuardKillInterval{0, 20'000'000};

// Kills until no child is left. Each round reaps what the last one killed; new orphans come to us.
void kill_what_is_left() {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  while (true) {
    pid_t reaped = 0;
    do reaped = ::waitpid(-1, nullptr, WNOHANG);
    while (reaped > 0 || (reaped < 0 && errno == EINTR));
    if (reaped < 0) return;  // ECHILD
    signal_descendants(SIGKILL);
    ::sigtimedwait(&child, nullptr, &kGuardKillInterval);
  }
}

[[noreturn]] void watch(pid_t agent, const sigset_t& signals, const CgroupPath& cgroup) {
  // Only the agent holds the control path, so that its end is the end of the stream.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::close(null);
  }
  while (true) {
    int number = 0;
    if (::sigwait(&signals, &number) != 0) continue;
    if (number != SIGCHLD) {
      ::kill(agent, number);
      continue;
    }
    int status = 0;
    pid_t reaped = 0;
    while ((reaped = ::waitpid(-1, &status, WNOHANG)) > 0) {
      if (reaped != agent) continue;
      kill_cgroup(cgroup.value());
      kill_what_is_left();
      remove_cgroup(cgroup.value());
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : kExitAgentKilled);
    }
  }
}

}  // namespace

Result<void> fork_under_guard(const CgroupPath& cgroup) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&signals, number);
  // A starter that ignores SIGCHLD (some cron and init programs) must not reap our children for us.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &standard, nullptr);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return system_error(errno, "sigprocmask");
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return system_error(errno, "PR_SET_CHILD_SUBREAPER");
  const pid_t guard = ::getpid();
  const pid_t agent = ::fork();
  if (agent < 0) return system_error(errno, "fork of the agent");
  if (agent > 0) watch(agent, signals, cgroup);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // an orderly stop: it is the subreaper of all that is left
  if (::getppid() != guard) return make_error(Errc::interrupted, "killed while starting");
  // Not inherited by a child.
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return system_error(errno, "PR_SET_CHILD_SUBREAPER");
  return ok;
}

}  // namespace llmlaunch::launcher::agent
