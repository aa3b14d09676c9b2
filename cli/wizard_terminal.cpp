// The terminal of the wizard. Settings are put back whatever ends a question; signals stay on, and are noted.
#include "cli/wizard_terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/wizard_signals.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::size_t kUsualWidth = 100;
constexpr std::size_t kMaxLine = 64u << 10;

/// Keys come one by one and are not shown, for its lifetime.
class KeyByKey {
 public:
  explicit KeyByKey(int fd) : fd_(fd), set_(::tcgetattr(fd, &before_) == 0) {
    if (!set_) return;
    termios keys = before_;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    keys.c_cc[VSUSP] = _POSIX_VDISABLE;  // a shell would find the terminal like this
    set_ = ::tcsetattr(fd, TCSADRAIN, &keys) == 0;
  }
  ~KeyByKey() {
    if (set_) ::tcsetattr(fd_, TCSADRAIN, &before_);
  }
  KeyByKey(const KeyByKey&) = delete;
  KeyByKey& operator=(const KeyByKey&) = delete;

 private:
  int fd_;
  termios before_{};
  bool set_;
};

std::string brackets(const Question& question) {
  const std::string& shown = question.fallback_text.empty() ? question.fallback : question.fallback_text;
  return shown.empty() ? "" : " [" + shown + "]";
}

std::string lines_for_terminal(const std::string& text) {
  std::string shown;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    shown += printable(text.substr(start, end - start));
    if (end < text.size()) shown += '\n';
    start = end + 1;
  }
  return shown;
}

bool can_move_cursor() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

void erase_last_character(std::string& line) {
  while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xc0) == 0x80) line.pop_back();
  if (!line.empty()) line.pop_back();
}

}  // namespace

Result<PromptTerminal> PromptTerminal::open() {
  const int fd = ::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (fd >= 0 && ::tcgetpgrp(fd) == ::getpgrp()) return PromptTerminal(fd);
  if (fd >= 0) ::close(fd);
  return make_error(Errc::usage, "config: there is no terminal to ask at", {},
                    "--non-interactive takes what would be proposed; options and --answers FILE say the rest");
}

PromptTerminal::~PromptTerminal() {
  if (fd_ >= 0) ::close(fd_);
}

PromptTerminal::PromptTerminal(PromptTerminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

void PromptTerminal::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd_, text.data(), text.size());
    if (put < 0 && errno == EINTR && caught_signal() == 0) continue;
    if (put <= 0) return;  // a terminal that is gone is noticed when it is read
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void PromptTerminal::say(const std::string& text) {
  write(lines_for_terminal(text));
}

std::size_t PromptTerminal::width() const {
  winsize size{};
  return ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualWidth;
}

PromptTerminal::Ready PromptTerminal::wait(Probe* background) {
  while (caught_signal() == 0) {
    std::array<pollfd, 2> both{{{fd_, POLLIN, 0}, {background ? background->fd() : -1, POLLIN, 0}}};
    const int ready = ::poll(both.data(), both.size(), -1);
    if (ready < 0) continue;  // a signal, which the loop looks at
    if (both[1].revents != 0) background->take();
    if (both[0].revents != 0) return Ready::input;
  }
  return Ready::interrupted;
}

Reply PromptTerminal::read_line(Probe* background) {
  std::string line;
  for (;;) {
    if (wait(background) == Ready::interrupted) return {Reply::Kind::interrupted, {}};
    std::array<char, 4096> piece;
    const ssize_t got = ::read(fd_, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || line.size() > kMaxLine) return {Reply::Kind::end, {}};
    line.append(piece.data(), static_cast<std::size_t>(got));
    if (line.back() != '\n') continue;
    line.pop_back();
    return {Reply::Kind::text, std::move(line)};
  }
}

void PromptTerminal::draw(const Question& question, std::size_t selected, bool again) {
  const auto& choices = question.choices;
  if (again) write(fmt::format("\r\x1b[{}A", choices.size()));
  std::size_t widest = 0;
  for (const Choice& choice : choices) widest = std::max(widest, choice.answer.size());
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const std::string text = fmt::format("  {} {}) {:<{}}  {}", i == selected ? '>' : ' ', i + 1, choices[i].answer,
                                         widest, choices[i].text);
    write((again ? "\x1b[2K" : "") + printable(text) + "\n");
  }
}

// What is typed stands behind the prompt; arrow keys move the mark above it.
Reply PromptTerminal::read_choice(const Question& question, std::size_t selected, Probe* background) {
  const KeyByKey keys(fd_);
  const bool moves = can_move_cursor();
  const std::string prompt = question.other ? "  number, text or Enter: " : "  number or Enter: ";
  draw(question, selected, false);
  write(prompt);
  std::string typed, escape;
  const auto move = [&](std::size_t to) {
    selected = to;
    if (!moves) return;
    draw(question, selected, true);
    write("\x1b[2K" + prompt + printable(typed));
  };
  for (;;) {
    if (wait(background) == Ready::interrupted) return {Reply::Kind::interrupted, {}};
    char key = 0;
    const ssize_t got = ::read(fd_, &key, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {Reply::Kind::end, {}};
    if (!escape.empty() || key == '\x1b') {  // ESC [ A, or ESC O A
      escape += key;
      if (escape.size() < 3) continue;
      const std::size_t count = question.choices.size();
      if (key == 'A') move((selected + count - 1) % count);
      if (key == 'B') move((selected + 1) % count);
      if (!(key >= '0' && key <= '9') && key != ';') escape.clear();
      continue;
    }
    if (key == '\x04' && typed.empty()) return {Reply::Kind::end, {}};
    if (key == '\n' || key == '\r') {
      write("\n");
      if (typed.empty()) return {Reply::Kind::text, question.choices[selected].answer};
      return {Reply::Kind::text, std::move(typed)};
    }
    if (key == '\x7f' || key == '\b') {
      if (!typed.empty()) write("\b \b");
      erase_last_character(typed);
    } else if (key == '\x15') {
      while (!typed.empty()) {
        write("\b \b");
        erase_last_character(typed);
      }
    } else if (static_cast<unsigned char>(key) >= 0x20 && typed.size() < kMaxLine) {
      typed += key;
      write({&key, 1});
    }
  }
}

Reply PromptTerminal::ask(const Question& question, Probe* background) {
  const auto& choices = question.choices;
  std::size_t selected = 0;
  for (std::size_t i = 0; i < choices.size(); ++i)
    if (choices[i].answer == question.fallback) selected = i;
  for (;;) {
    write("\n" + printable(question.text + brackets(question)) + (choices.empty() ? ": " : "\n"));
    Reply reply = choices.empty() ? read_line(background) : read_choice(question, selected, background);
    if (reply.kind != Reply::Kind::text) {
      write("\n");
      return reply;
    }
    std::string& text = reply.text;
    text.erase(0, std::min(text.find_first_not_of(" \t"), text.size()));
    text.erase(text.find_last_not_of(" \t\r") + 1);
    if (text == "back") return {Reply::Kind::back, {}};
    if (text == "?") {
      say(question.help + "\n'back' goes to the question before, Ctrl-C ends without writing anything.\n");
      continue;
    }
    if (choices.empty()) {
      if (text.empty()) text = question.fallback;
      return reply;
    }
    for (std::size_t i = 0; i < choices.size(); ++i)
      if (text == std::to_string(i + 1)) text = choices[i].answer;
    const bool known =
        std::any_of(choices.begin(), choices.end(), [&](const Choice& one) { return one.answer == text; });
    if (known || question.other) return reply;
    // "n" for no, where no other answer begins so.
    std::vector<std::string> meant;
    for (const Choice& one : choices)
      if (one.answer.starts_with(text)) meant.push_back(one.answer);
    if (meant.size() == 1) return {Reply::Kind::text, meant.front()};
    say(fmt::format("'{}' is none of the choices.\n", text));
  }
}

}  // namespace llmlaunch::cli
