/// \file
/// Cuts a program's stderr into lines to be shown, whatever pieces it comes in.
#pragma once

#include <string>
#include <string_view>

#include "launcher/agent_greeting.hpp"

namespace llmlaunch::launcher {

/// Lines without their end; empty ones are left out, longer ones come in pieces of kMaxNoiseLineBytes.
class LineCutter {
 public:
  template <class Sink>
  void feed(std::string_view text, const Sink& sink) {
    for (const char c : text) {
      if (c != '\n' && c != '\r') line_ += c;
      if (c == '\n' || line_.size() >= kMaxNoiseLineBytes) flush(sink);
    }
  }
  /// The last line, when it has no end.
  template <class Sink>
  void flush(const Sink& sink) {
    if (!line_.empty()) sink(std::string_view(line_));
    line_.clear();
  }

 private:
  std::string line_;
};

}  // namespace llmlaunch::launcher
