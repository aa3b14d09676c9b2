/// \file
/// The words of `llmlaunch config check FILE` and `llmlaunch config --schema`. The command `config` itself is the
/// caller's: another parser may have options and words of its own on it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class ConfigParser {
 public:
  /// `config` is the subcommand.
  void add_to(CLI::App& config);
  /// After the parse: is one of the two meant?
  bool parsed() const;
  /// `words` are those that are no options. Errors: `Errc::usage`.
  Result<Options> options(std::vector<std::string> words);

 private:
  CLI::App* check_ = nullptr;
  bool schema_ = false;
  ConfigCheckOptions values_;
};

}  // namespace llmlaunch::cli
