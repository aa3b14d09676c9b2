/// \file
/// The words of `llmlaunch exec`, beside those of the other commands in options.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

/// Declares -w, -x, --hostfile and --from.
void add_host_options(CLI::App& command, HostWords& hosts, bool with_where);
/// None of them is empty, and --from is a known word. Errors: `Errc::usage`.
Result<void> check_host_options(const CLI::App& command, const HostWords& hosts);

/// The last of these alone.
Result<void> check_from(const CLI::App& command, const std::optional<std::string>& from);

class ExecParser {
 public:
  void add_to(CLI::App& app);
  /// After the parse: checked values. `command` is the program and its words. Errors: `Errc::usage`.
  Result<Options> options(std::vector<std::string> command);

  CLI::App* app = nullptr;

 private:
  Result<void> check_values();

  ExecOptions values_;
  std::string fanout_, timeout_, connect_timeout_;  // as text
  bool quiet_ = false;
  bool verbose_ = false;
};

}  // namespace llmlaunch::cli
