// The handlers only note; system calls that wait end with EINTR.
#include "cli/wizard_signals.hpp"

#include <array>
#include <csignal>

namespace llmlaunch::cli {
namespace {

constexpr std::array<int, 4> kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
volatile std::sig_atomic_t caught = 0;
std::array<struct sigaction, kSignals.size()> before;

void note(int number) {
  if (caught == 0) caught = number;
}

}  // namespace

NotedSignals::NotedSignals() {
  caught = 0;
  struct sigaction action {};
  action.sa_handler = note;  // no SA_RESTART
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &before[i]);
}

NotedSignals::~NotedSignals() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before[i], nullptr);
}

int caught_signal() {
  return caught;
}

}  // namespace llmlaunch::cli
