/// \file
/// The words of `llmlaunch hosts`, beside those of the other commands in options.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class HostsParser {
 public:
  void add_to(CLI::App& app);
  /// After the parse: checked values. `expressions` are the words that are no options. Errors: `Errc::usage`.
  Result<Options> options(std::vector<std::string> expressions);

  CLI::App* app = nullptr;

 private:
  HostsOptions values_;
  Result<void> check_folding();

  std::string pick_, split_, autostep_, axis_;  // as text
};

}  // namespace llmlaunch::cli
