/// \file
/// Asks at /dev/tty: one question, one answer. Lines are edited as the terminal does it; choices have arrow keys. "?"
/// shows the help, "back" goes back. Nothing here knows what is asked.
#pragma once

#include <string>

#include "cli/wizard_probe.hpp"
#include "cli/wizard_questions.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

struct Reply {
  enum class Kind { text, back, end, interrupted };  ///< end: of input, Ctrl-D
  Kind kind = Kind::text;
  std::string text;
};

class PromptTerminal {
 public:
  /// `Errc::usage` when there is none, or it is not ours to read.
  static Result<PromptTerminal> open();
  ~PromptTerminal();
  PromptTerminal(PromptTerminal&& other) noexcept;
  PromptTerminal& operator=(PromptTerminal&&) = delete;

  /// `background` is emptied meanwhile, so that it never waits for the person; may be null.
  Reply ask(const Question& question, Probe* background);
  /// Shows it, with control characters made visible; lines end with newlines.
  void say(const std::string& text);
  std::size_t width() const;

 private:
  explicit PromptTerminal(int fd) : fd_(fd) {}
  enum class Ready { input, interrupted };
  Ready wait(Probe* background);
  Reply read_line(Probe* background);
  Reply read_choice(const Question& question, std::size_t selected, Probe* background);
  void draw(const Question& question, std::size_t selected, bool again);
  void write(std::string_view text);

  int fd_ = -1;
};

}  // namespace llmlaunch::cli
