// How a process ends after the signal that stopped it, as its parent sees it.
#include "rendezvous/base/signal_end.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/catch.hpp"

namespace base_signal_end_test {

namespace {

/// Of a child that blocks and ignores SIGINT, as one that takes its signals by itself.
int status_after(int signal) {
  const pid_t child = ::fork();
  if (child == 0) {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::signal(SIGINT, SIG_IGN);
    llmlaunch::end_by_signal(signal);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("Ctrl-C ends a process by SIGINT itself, and any other signal by an exit status") {
  const int interrupted = status_after(SIGINT);
  CHECK((WIFSIGNALED(interrupted) && WTERMSIG(interrupted) == SIGINT));
  const int terminated = status_after(SIGTERM);
  CHECK((WIFEXITED(terminated) && WEXITSTATUS(terminated) == 143));
}

}  // namespace base_signal_end_test
