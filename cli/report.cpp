// The wording around an error; what it says was put together where it happened.
#include "cli/report.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "rendezvous/base/log.hpp"
#include "rendezvous/base/signal_code.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::string_view kRed = "\x1b[1;31m";
constexpr std::string_view kCyan = "\x1b[36m";
constexpr std::string_view kPlain = "\x1b[0m";
constexpr int kInterruptedPatienceMs = 1'000;

launcher::ColorWhen chosen = launcher::ColorWhen::automatic;
bool interrupted = false;

}  // namespace

void choose_colour(launcher::ColorWhen when) {
  chosen = when;
}

bool can_redraw(int fd) {
  const char* terminal = std::getenv("TERM");
  return terminal && std::string_view(terminal) != "dumb" && ::isatty(fd) == 1;
}

std::string format_error(const Error& error, bool colour) {
  Error bare = error;
  bare.hint.clear();
  std::string text = colour ? fmt::format("llmlaunch: {}error:{} ", kRed, kPlain) : "llmlaunch: error: ";
  text += printable(to_string(bare));
  text += '\n';
  if (!error.hint.empty()) {
    text += colour ? fmt::format("   {}hint:{} ", kCyan, kPlain) : "   hint: ";
    text += printable(error.hint);
    text += '\n';
  }
  return text;
}

bool wants_colour(int fd) {
  if (chosen != launcher::ColorWhen::automatic) return chosen == launcher::ColorWhen::always;
  const char* no_colour = std::getenv("NO_COLOR");
  if (no_colour && *no_colour != '\0') return false;
  return can_redraw(fd);
}

bool was_interrupted() {
  return interrupted;
}

void report_error(const Error& error) {
  interrupted = interrupted || error.code == Errc::interrupted || signal_of(error.code) == SIGINT;
  const std::string text = format_error(error, wants_colour(STDERR_FILENO));
  std::string_view rest = text;
  while (!rest.empty()) {
    // Whoever has ended the program by a signal does not wait for a reader of stderr that reads nothing.
    pollfd ready{STDERR_FILENO, POLLOUT, 0};
    const bool limited = error.code == Errc::interrupted || signal_of(error.code) != 0;
    if (limited && ::poll(&ready, 1, kInterruptedPatienceMs) == 0) return;
    const ssize_t written =
        ::write(STDERR_FILENO, rest.data(), limited ? std::min<std::size_t>(rest.size(), PIPE_BUF) : rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody is left who could be told
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

ExitStatus exit_status_of(const Error& error) {
  if (const int signal = signal_of(error.code); signal != 0) return static_cast<ExitStatus>(128 + signal);
  if (error.code.category() != error_category()) return ExitStatus::io;  // a system call
  switch (static_cast<Errc>(error.code.value())) {
    case Errc::usage: return ExitStatus::usage;
    case Errc::invalid_config:
    case Errc::invalid_argument:  // before a job ran, values and what exceeds a limit come from configuration
    case Errc::too_large: return ExitStatus::config;
    case Errc::locked: return ExitStatus::locked;
    case Errc::interrupted: return ExitStatus::interrupted;
    case Errc::timed_out:
    case Errc::refused:
    case Errc::unreachable:
    case Errc::closed:
    case Errc::protocol:
    case Errc::version_mismatch:
    case Errc::unsupported:
    case Errc::out_of_resources:
    case Errc::unauthenticated:
    case Errc::host_key_unknown:
    case Errc::host_key_changed:
    case Errc::host_key_other:
    case Errc::host_key_revoked:
    case Errc::no_workdir: return ExitStatus::unavailable;
    case Errc::no_program: return ExitStatus::no_program;
    case Errc::not_executable: return ExitStatus::not_executable;
    case Errc::io: return ExitStatus::io;
    case Errc::not_found:  // a part of llmlaunch that is not installed; a configuration file has its own condition
    case Errc::canceled:
    case Errc::duplicate_rank:
    case Errc::stale_generation:
    case Errc::wrong_world:
    case Errc::generation_ended:
    case Errc::rank_failed:
    case Errc::internal: return ExitStatus::internal;
  }
  return ExitStatus::internal;  // a number that is no condition
}

int fail(const Error& error) {
  report_error(error);
  return number(exit_status_of(error));
}

}  // namespace llmlaunch::cli
