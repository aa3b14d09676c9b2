/// \file
/// The command line, cut where the program begins: what stands behind that point is data of another program, and no
/// option parser may reorder, split or interpret it. Private to options.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/foreign_flags.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// Own words, cut off before the program; and the program's.
struct Cut {
  std::vector<std::string> own;
  std::vector<std::string> program;
  std::vector<const CLI::Option*> seen;
  std::vector<ForeignUse> foreign;
};

/// The words as CLI11 may read them. `between`: commands, and those below them, that take words of their own with
/// options between them; these are `program`, too. Errors: `Errc::usage`.
Result<Cut> cut_words(const CLI::App& app, const std::vector<const CLI::App*>& between,
                      const std::vector<std::string>& words);

/// "llmlaunch docs man".
std::string full_name(const CLI::App& app);

}  // namespace llmlaunch::cli
