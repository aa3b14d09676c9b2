/// \file
/// `llmlaunch.setup`: shell lines that run once on a host before its ranks, in the user's login shell. Here is what the
/// shell is given and what its report means; processes are in setup_process.hpp. Pure.
///
/// The shell reads its script from descriptor 8 and reports on descriptor 9, so that values and secrets in lines are on
/// no command line and in no file, and printed noise does no harm:
///
///     "line N\n" before each line, then "env\n" and the output of `env -0`
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher::agent {

inline constexpr int kSetupScriptFd = 8;  // one digit: dash knows no other
inline constexpr int kSetupReportFd = 9;
// What an exec can take at most is 6 MiB; the rest is room for those that a rank's own variables replace.
inline constexpr std::size_t kMaxSetupReportBytes = 8u << 20;
// Noise that is passed on; beyond that only the last lines are kept, for an error.
inline constexpr std::size_t kMaxSetupNoiseLines = 500;
inline constexpr std::size_t kMaxSetupNoiseLineBytes = 1000;
inline constexpr std::size_t kSetupTailLines = 10;

/// The shell of `environment` ("SHELL=/bin/bash"), where it is one that reads POSIX scripts; else /bin/sh. `note` is
/// then why.
std::string setup_shell(const std::vector<std::string>& environment, std::string& note);

/// A name that a shell can set.
bool is_shell_name(std::string_view name);

/// Sets `env` (after the profile, so that what the user configured wins), then runs each line.
std::string setup_script(const std::vector<std::string>& lines, const EnvList& env);

/// How the shell ended.
struct SetupEnd {
  bool signaled = false;
  int value = 0;
  bool timed_out = false;
};

/// Reads report and noise as they come.
class SetupReport {
 public:
  /// `lines`: as given to the script.
  explicit SetupReport(std::vector<std::string> lines) : lines_(std::move(lines)) {}

  void add_report(std::string_view bytes);
  /// Lines that are to be shown now.
  std::vector<std::string> add_noise(std::string_view bytes);
  std::vector<std::string> end_noise();

  /// The environment after the last line, in place of `before`, or what failed: the line, how, and its last output.
  Result<std::vector<std::string>> finish(const SetupEnd& end, const std::vector<std::string>& before,
                                          std::uint32_t timeout_ms) const;

 private:
  std::optional<std::string> take_noise(std::string_view line);
  std::string failed_line() const;
  std::string last_output() const;

  std::vector<std::string> lines_;
  std::string report_;
  bool too_long_ = false;
  std::string partial_;
  std::vector<std::string> tail_;
  std::size_t shown_ = 0;
};

}  // namespace llmlaunch::launcher::agent
