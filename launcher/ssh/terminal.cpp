// A hidden question at /dev/tty; see terminal.hpp.
#include "launcher/ssh/terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>

#include "rendezvous/base/log.hpp"
#include "rendezvous/base/unique_fd.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// How often it is looked at whether the terminal is as we want it.
constexpr std::chrono::milliseconds kGlance{200};

// The terminal, when it can be asked at.
UniqueFd open_terminal() {
  UniqueFd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (terminal && ::tcgetpgrp(terminal.value()) != ::getpgrp()) terminal.reset();  // reading would stop us
  return terminal;
}

// Others have it: reading and setting it would stop us. Not when it is gone, which is noticed when it is read.
bool is_in_background(int terminal) {
  const pid_t foreground = ::tcgetpgrp(terminal);
  return foreground >= 0 && foreground != ::getpgrp();
}

/// No echo for its lifetime; the newline that is typed is not shown either.
class NoEcho {
 public:
  explicit NoEcho(int terminal) : terminal_(terminal), set_(::tcgetattr(terminal, &before_) == 0) {
    if (!set_) return;
    termios hidden = before_;
    hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL);
    set_ = ::tcsetattr(terminal_, TCSAFLUSH, &hidden) == 0;
  }
  ~NoEcho() {
    if (set_ && !is_in_background(terminal_)) ::tcsetattr(terminal_, TCSAFLUSH, &before_);
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;
  bool set() const { return set_; }
  /// A shell that continues a stopped program (Ctrl-Z, fg) may have put the echo back.
  bool is_lost() const {
    termios now{};
    return !is_in_background(terminal_) && ::tcgetattr(terminal_, &now) == 0 && (now.c_lflag & ECHO) != 0;
  }
  void hide_again() {
    termios hidden{};
    if (::tcgetattr(terminal_, &hidden) != 0) return;  // a terminal that is gone is noticed when it is read
    hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL);
    ::tcsetattr(terminal_, TCSAFLUSH, &hidden);
  }

 private:
  int terminal_;
  termios before_{};
  bool set_;
};

void show(int terminal, std::string_view text) {
  (void)write_all(terminal, text);  // a terminal that is gone is noticed when it is read
}

// Nothing: there is something to read.
std::optional<Error> wait_for_line(int terminal, int stop_fd, NoEcho& hidden, const std::string& prompt) {
  const auto until = std::chrono::steady_clock::now() + kPromptPatience;
  std::array<pollfd, 2> both{{{terminal, POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return make_error(Errc::timed_out,
                        fmt::format("nobody answered at the terminal within {} minutes", kPromptPatience.count()));
    const int ready = ::poll(both.data(), both.size(), static_cast<int>(std::min<std::int64_t>(left, kGlance.count())));
    if (ready < 0 && errno != EINTR) return system_error(errno, "waiting for an answer at the terminal");
    if (ready > 0 && both[1].revents != 0) return make_error(Errc::canceled, "no answer is wanted any more");
    if (hidden.is_lost()) {
      hidden.hide_again();
      show(terminal, prompt);
      continue;  // what was typed meanwhile is thrown away
    }
    both[0].fd = is_in_background(terminal) ? -1 : terminal;
    if (ready > 0 && both[0].fd >= 0 && both[0].revents != 0) return std::nullopt;
  }
}

Result<Secret> read_line(int terminal, int stop_fd, NoEcho& hidden, const std::string& prompt) {
  Secret secret;
  while (true) {
    if (auto error = wait_for_line(terminal, stop_fd, hidden, prompt)) return *error;
    char c = 0;
    const ssize_t got = ::read(terminal, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "reading from the terminal");
    if (got == 0) return make_error(Errc::closed, "no answer was given at the terminal");
    if (c == '\n' || c == '\r') return secret;
    if (!secret.append(c))
      return make_error(Errc::too_large, fmt::format("more than {} characters were typed", kMaxSecretBytes));
  }
}

}  // namespace

bool has_terminal() {
  return static_cast<bool>(open_terminal());
}

Result<Secret> ask_at_terminal(const std::string& prompt, int stop_fd) {
  const UniqueFd terminal = open_terminal();
  if (!terminal) return make_error(Errc::unsupported, "there is no terminal to ask at");
  NoEcho hidden(terminal.value());
  if (!hidden.set()) return system_error(errno, "hiding what is typed at the terminal");
  show(terminal.value(), printable(prompt));
  auto answer = read_line(terminal.value(), stop_fd, hidden, printable(prompt));
  show(terminal.value(), "\n");
  return answer;
}

Result<Secret> ask_before_all(const std::string& prompt) {
  sigset_t ending, before;
  ::sigemptyset(&ending);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::sigaddset(&ending, number);
  if (::pthread_sigmask(SIG_BLOCK, &ending, &before) != 0) return system_error(errno, "pthread_sigmask");
  const UniqueFd caught(::signalfd(-1, &ending, SFD_CLOEXEC));
  Result<Secret> answer = caught ? ask_at_terminal(prompt, caught.value()) : system_error(errno, "signalfd");
  // It was not taken out: from here on it does what it always does.
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return answer;
}

}  // namespace llmlaunch::launcher::ssh
