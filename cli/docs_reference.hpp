/// \file
/// `llmlaunch docs reference`: every key of a configuration file as a page, made of the table that the parser reads by.
/// configs/REFERENCE.md is its output.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace llmlaunch::cli {

class DocsReferenceParser {
 public:
  /// Below the command `docs`.
  void add_to(CLI::App& docs);
  bool parsed() const;
  /// `words` behind the command: none. Errors: `Errc::usage`.
  Result<Options> options(const std::vector<std::string>& words) const;

 private:
  CLI::App* reference_ = nullptr;
};

/// The page, as Markdown.
std::string configuration_reference();

}  // namespace llmlaunch::cli
