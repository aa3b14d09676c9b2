// A hidden question at /dev/tty; see terminal.hpp.
#include "launcher/ssh/terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>

#include "launcher/agent/unique_fd.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

using agent::UniqueFd;

// The terminal, when it can be asked at.
UniqueFd open_terminal() {
  UniqueFd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (terminal && ::tcgetpgrp(terminal.value()) != ::getpgrp()) terminal.reset();  // reading would stop us
  return terminal;
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
    if (set_) ::tcsetattr(terminal_, TCSAFLUSH, &before_);
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;
  bool set() const { return set_; }

 private:
  int terminal_;
  termios before_{};
  bool set_;
};

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // a terminal that is gone is noticed when it is read
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

// Nothing: there is something to read.
std::optional<Error> wait_for_line(int terminal, int stop_fd) {
  const auto until = std::chrono::steady_clock::now() + kPromptPatience;
  std::array<pollfd, 2> both{{{terminal, POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return make_error(Errc::timed_out,
                        fmt::format("nobody answered at the terminal within {} minutes", kPromptPatience.count()));
    const int ready = ::poll(both.data(), both.size(), static_cast<int>(left));
    if (ready < 0 && errno != EINTR) return system_error(errno, "waiting for an answer at the terminal");
    if (ready <= 0) continue;
    if (both[1].revents != 0) return make_error(Errc::canceled, "no answer is wanted any more");
    return std::nullopt;
  }
}

Result<Secret> read_line(int terminal, int stop_fd) {
  Secret secret;
  while (true) {
    if (auto error = wait_for_line(terminal, stop_fd)) return *error;
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
  const NoEcho hidden(terminal.value());
  if (!hidden.set()) return system_error(errno, "hiding what is typed at the terminal");
  write_all(terminal.value(), printable(prompt));
  auto answer = read_line(terminal.value(), stop_fd);
  write_all(terminal.value(), "\n");
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
