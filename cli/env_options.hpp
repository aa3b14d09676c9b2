/// \file
/// The words of `llmlaunch env`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class EnvParser {
 public:
  void add_to(CLI::App& app);
  /// After the parse: checked values. Errors: `Errc::usage`.
  Result<Options> options(const std::vector<std::string>& rest);

  CLI::App* app = nullptr;

 private:
  EnvOptions values_;
  std::string connect_timeout_;
  bool quiet_ = false;
  bool verbose_ = false;
};

}  // namespace llmlaunch::cli
