// SIGTERM stays an exit status: its sender asked for an end, and gets one that tells of a job that saved itself.
#include "rendezvous/base/signal_end.hpp"

#include <unistd.h>

#include <csignal>

namespace llmlaunch {

void end_by_signal(int signal) noexcept {
  if (signal == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    sigset_t only;
    ::sigemptyset(&only);
    ::sigaddset(&only, SIGINT);
    ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
    std::raise(SIGINT);
  }
  ::_exit(128 + signal);  // also where this is a container's first process, which a signal does not end
}

}  // namespace llmlaunch
