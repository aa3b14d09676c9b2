// The handler touches two flags and nothing else.
#include "trainer/stop.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <thread>

namespace llmlaunch::trainer {
namespace {

using namespace std::chrono_literals;

/// Within this time the SIGTERM comes that belongs to the news.
constexpr auto kSignalWait = 2s;
/// A loop without a batch for so long hangs.
constexpr auto kBatchWait = 5s;
constexpr auto kLook = 50ms;

std::atomic<bool> noting_sigterm{false};
std::atomic<bool> sigterm_noted{false};
std::atomic<bool> saving_now{false};
std::atomic<std::uint64_t> batches_marked{0};
static_assert(std::atomic<bool>::is_always_lock_free, "used by a signal handler");

void stop(int signal) {
  if (signal == SIGTERM && noting_sigterm && !sigterm_noted.exchange(true)) return;
  ::_exit(128 + signal);
}

/// False when `limit` passed and `happened` never held.
template <class Condition>
bool wait_until(Condition happened, std::chrono::steady_clock::duration limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!happened()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = stop;
  action.sa_flags = SA_RESTART;  // a collective that waits for others goes on
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void note_first_sigterm(bool on) {
  noting_sigterm = on;
}

bool is_stop_noted() {
  return sigterm_noted;
}

void mark_batch() {
  saving_now = false;
  ++batches_marked;
}

void mark_saving() {
  saving_now = true;
}

void wait_while_saving() {
  if (!noting_sigterm || !wait_until(is_stop_noted, kSignalWait)) return;
  for (;;) {
    const std::uint64_t seen = batches_marked;
    if (!wait_until([&] { return saving_now || batches_marked != seen; }, kBatchWait)) return;
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace llmlaunch::trainer
