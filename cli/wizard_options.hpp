/// \file
/// The words of `llmlaunch config`, `config default`, `config update` and `config import`.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class WizardParser {
 public:
  /// `config` is the subcommand.
  void add_to(CLI::App& config);
  /// After the parse: checked values. `words` are those that are no options: "import", its files. Errors:
  /// `Errc::usage`.
  Result<Options> options(const std::vector<std::string>& words);

  CLI::App* app = nullptr;

 private:
  Result<void> take_mode(const std::vector<std::string>& words);
  Result<void> check_mode_options() const;

  WizardOptions values_;
  std::map<std::string, std::string> answers_;  // by the names of questions
  std::string hostfile_;
};

}  // namespace llmlaunch::cli
