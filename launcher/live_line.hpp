/// \file
/// `LiveLine`: one line below everything else on a terminal, which is replaced as things go on. Says which bytes to
/// write and when; writes nothing itself. Used by the output writer, for the roll call and for ranks' progress bars.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace llmlaunch::launcher {

class LiveLine {
 public:
  /// What it says from now on; nothing: it goes away. Printable, and no wider than the terminal.
  void set(std::string text) { wanted_ = std::move(text); }

  /// The screen shows what it says.
  bool is_drawn() const { return shown_ == wanted_; }

  /// Removes it from the screen, before something else is written. Nothing when it is not there.
  std::string erase() {
    if (shown_.empty()) return {};
    shown_.clear();
    return std::string(kErase);
  }

  /// Brings the screen up to date, after everything else. Nothing when it is.
  std::string draw() {
    if (shown_ == wanted_) return {};
    const std::string erased = erase();
    shown_ = wanted_;
    return erased + shown_;
  }

 private:
  static constexpr std::string_view kErase = "\r\x1b[K";  // to the line's beginning; what is behind it is erased

  std::string wanted_;
  std::string shown_;
};

}  // namespace llmlaunch::launcher
