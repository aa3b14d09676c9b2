// A thread takes the signals: nobody's code is interrupted by a handler. oneDNN's kernels, for one, use the stack
// pointer for their own ends, and a handler's frame would be written over their data.
#include "trainer/stop.hpp"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <system_error>
#include <thread>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "rendezvous/base/signal_end.hpp"
#include "trainer/unfinished.hpp"
#include "trainer/world.hpp"
#include "trainer/write_gate.hpp"

namespace llmlaunch::trainer {
namespace {

using namespace std::chrono_literals;

/// Within this time the SIGTERM comes that belongs to the news.
constexpr auto kSignalWait = 2s;
/// A loop without a batch for so long hangs, unless its batches take as long.
constexpr auto kBatchWait = 5s;
/// A checkpoint that takes longer is on a disk that hangs.
constexpr auto kWriteWait = 60s;
constexpr auto kLook = 50ms;
/// Two SIGTERMs so close together are one: coreutils' timeout signals its child and then its group, which the child is
/// in.
constexpr auto kOneStop = 100ms;

std::atomic<bool> noting_sigterm{false};
std::atomic<bool> noting_sigint{false};
std::atomic<bool> job_saves{false};
std::atomic<bool> joined{false};
std::atomic<bool> end_is_known{false};
std::atomic<int> stop_noted{0};
std::atomic<bool> launcher_lost{false};
std::atomic<bool> saving_now{false};
std::atomic<std::uint64_t> batches_marked{0};
std::atomic<std::chrono::steady_clock::rep> last_batch{0};
std::atomic<std::chrono::steady_clock::rep> longest_batch{0};  // the main thread alone writes both

/// Never destroyed: threads use it while the process ends.
WriteGate& write_gate() {
  static auto* const gate = new WriteGate;
  return *gate;
}

/// On a thread of its own: a stderr that nobody reads must not keep the next Ctrl-C from being heard.
void answer_interrupt() {
  try {
    std::thread([] {
      // Behind the ^C that a terminal shows, which may be the line of progress.
      if (::isatty(STDERR_FILENO) == 1 && ::write(STDERR_FILENO, "\n", 1) != 1) return;  // nobody reads it any more
      log_info("Ctrl-C: the job is saved and ends; once more ends it at once");
    }).detach();
  } catch (const std::system_error&) {  // no thread is left: then it goes without saying
  }
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

/// A launcher that stops a job tells of the end as well, to all ranks, which then need not tell it.
constexpr auto kNewsWait = 100ms;

const char* name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGHUP ? "SIGHUP" : "SIGTERM";
}

/// Past the logger, whose lock may be held by a thread that hangs; and never waits for a reader of stderr.
void tell_of_stop(int signal) {
  if (is_launched() && (!joined || wait_until([] { return end_is_known.load(); }, kNewsWait))) return;
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0) return;
  std::array<char, 160> line{};
  // Behind the ^C that a terminal shows, which may be the line of progress.
  const int size =
      std::snprintf(line.data(), line.size(), "%sllmlaunch-train: warning: stopped by %s%s; %s\n",
                    ::isatty(STDERR_FILENO) == 1 ? "\n" : "", stop_noted == 0 ? "" : "a second ", name_of(signal),
                    stop_noted != 0 ? "no checkpoint was waited for"
                    : job_saves     ? "what came after the last checkpoint is not saved"
                                    : "nothing was saved");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), static_cast<std::size_t>(size));
}

void take_signals(sigset_t signals) {
  std::chrono::steady_clock::time_point noted_at;
  bool is_first = true;
  for (;;) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal == SIGINT ? noting_sigint : noting_sigterm) {
      const auto now = std::chrono::steady_clock::now();
      if (std::exchange(is_first, false)) {
        noted_at = now;
        stop_noted = signal;
        if (signal == SIGINT) answer_interrupt();
        continue;
      }
      if (now < noted_at + kOneStop) continue;
    }
    remove_unfinished();
    tell_of_stop(signal);
    end_by_signal(signal);
  }
}

}  // namespace

void take_stop_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit of ulimit -f is an error like that of a full disk
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  // What a shell's "&" or nohup has ignored is not for this process: blocked, it would come all the same.
  for (const int signal : {SIGINT, SIGHUP}) {
    struct sigaction before {};
    const bool ignored = ::sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN;
    if (!ignored) ::sigaddset(&signals, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // threads made from now on have it, too
  std::thread(take_signals, signals).detach();
}

void note_first_stop(bool on, bool from_keyboard) {
  if (on) job_saves = true;
  noting_sigterm = on;
  noting_sigint = on && from_keyboard;
}

void mark_joined() {
  joined = true;
}

bool note_lost_launcher() {
  int none = 0;
  if (!noting_sigterm || !stop_noted.compare_exchange_strong(none, SIGTERM)) return false;
  launcher_lost = true;
  return true;
}

bool is_launcher_lost() {
  return launcher_lost;
}

bool is_stop_noted() {
  return stop_noted != 0;
}

int noted_stop() {
  const int signal = stop_noted;
  return signal == 0 ? SIGTERM : signal;
}

void mark_batch() {
  saving_now = false;
  ++batches_marked;
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  if (last_batch != 0 && now - last_batch > longest_batch) longest_batch = now - last_batch;
  last_batch = now;
}

void mark_saving() {
  saving_now = true;
}

bool begin_writing() {
  return write_gate().begin();
}

void end_writing() {
  write_gate().end();
}

void wait_while_writing() {
  write_gate().shut(kWriteWait);
}

void wait_while_saving() {
  end_is_known = true;
  if (!noting_sigterm || !wait_until(is_stop_noted, kSignalWait)) return;
  for (;;) {
    const std::uint64_t seen = batches_marked;
    const std::chrono::steady_clock::duration longest(longest_batch);
    if (!wait_until([&] { return saving_now || batches_marked != seen; },
                    std::max<std::chrono::steady_clock::duration>(kBatchWait, 3 * longest))) {
      return;
    }
    // The main thread ends the process when all have what they wait for.
    if (saving_now && !wait_until([] { return !saving_now; }, kWriteWait)) return;
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace llmlaunch::trainer
