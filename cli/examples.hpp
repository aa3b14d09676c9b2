/// \file
/// Examples at the end of each command's help, and the subjects under which the options of `run` stand there.
#pragma once

#include <CLI/CLI.hpp>
#include <string_view>

namespace llmlaunch::cli {

/// In front of the examples, behind what else the footer of a command has.
inline constexpr std::string_view kExamplesHeading = "Examples:\n";

/// Appends the examples of a command to its footer.
void add_examples(CLI::App& command);

/// Gives each option of `run` its subject. One that is in no list keeps its own, else it stands under "Other options".
void group_run_options(CLI::App& run);

}  // namespace llmlaunch::cli
