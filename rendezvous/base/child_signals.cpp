// Handlers to their default, then the mask opened; see child_signals.hpp.
#include "rendezvous/base/child_signals.hpp"

#include <csignal>

namespace llmlaunch {

void reset_signals(IgnoredSignals ignored) {
  struct sigaction standard {
  }, now{};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) {
    const bool stays = ignored == IgnoredSignals::kept && number != SIGPIPE && number != SIGXFSZ &&
                       ::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
    if (!stays) ::sigaction(number, &standard, nullptr);  // fails for KILL and STOP
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace llmlaunch
