/// \file
/// `llmlaunch docs man [COMMAND]` and `llmlaunch docs completion SHELL`: their words, and what they print.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class DocsPagesParser {
 public:
  /// Below the command `docs`.
  void add_to(CLI::App& docs);
  /// After the parse: is one of them meant?
  bool parsed() const;
  /// `words` behind the command. Errors: `Errc::usage`.
  Result<Options> options(std::vector<std::string> words) const;

 private:
  CLI::App* man_ = nullptr;
  CLI::App* completion_ = nullptr;
};

/// Prints the page or the script to stdout. The exit status.
int docs_pages_command(const DocsPagesOptions& options);

}  // namespace llmlaunch::cli
