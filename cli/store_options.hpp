/// \file
/// The words of `llmlaunch store VERB JOB …`, beside those of the other commands in options.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class StoreParser {
 public:
  void add_to(CLI::App& app);
  /// After the parse: checked values. `words` are those that are no options. Errors: `Errc::usage`.
  Result<Options> options(std::vector<std::string> words);

  CLI::App* app = nullptr;

 private:
  const CLI::App* verb() const;
  Result<void> take_words(const std::string& name, std::vector<std::string>& words);

  StoreOptions values_;
  std::string wait_;  // as text
};

}  // namespace llmlaunch::cli
