// The one signal handler of the head: all others are Asio's, of a loop that has ended when this one is needed.
#include "launcher/late_signals.hpp"

#include <atomic>
#include <csignal>
#include <ctime>

namespace llmlaunch::launcher {
namespace {

std::atomic<std::time_t> deaf_until_ms{0};
static_assert(std::atomic<std::time_t>::is_always_lock_free, "a handler takes no lock");

std::time_t monotonic_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

extern "C" void on_late_signal(int number) {
  if (monotonic_ms() < deaf_until_ms) return;
  std::signal(number, SIG_DFL);
  std::raise(number);  // when this handler returns
}

}  // namespace

void take_late_signal(int number, std::chrono::milliseconds moment) {
  deaf_until_ms = monotonic_ms() + moment.count();
  struct sigaction action {};
  action.sa_handler = on_late_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(number, &action, nullptr);
}

}  // namespace llmlaunch::launcher
