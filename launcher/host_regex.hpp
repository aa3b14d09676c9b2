/// \file
/// Regular expressions of host expressions: POSIX extended ones that cannot take long. Private to host_expression.cpp.
#pragma once

#include <regex.h>

#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

class HostRegex {
 public:
  HostRegex() = default;
  HostRegex(const HostRegex&) = delete;
  HostRegex& operator=(const HostRegex&) = delete;
  ~HostRegex() {
    if (compiled_) ::regfree(&regex_);
  }
  /// The system's own words when it is no regular expression.
  std::optional<std::string> compile(const std::string& pattern) {
    const int failed = ::regcomp(&regex_, pattern.c_str(), REG_EXTENDED | REG_NOSUB);
    compiled_ = failed == 0;
    if (compiled_) return std::nullopt;
    char words[200];
    ::regerror(failed, &regex_, words, sizeof words);
    return words;
  }
  bool matches(const std::string& text) const { return ::regexec(&regex_, text.c_str(), 0, nullptr, 0) == 0; }

 private:
  regex_t regex_{};
  bool compiled_ = false;
};

/// `Errc::invalid_argument` for what is none, and for counts and references back: they make matching as slow as
/// somebody wants it to be.
Result<void> check_host_regex(const std::string& pattern);

}  // namespace llmlaunch::launcher
