/// \file
/// `--explain`: every setting with its value and where that comes from: an option, --set, a variable, a place in a
/// file, or the default. Secrets are masked. Pure; called by run.cpp and exec.cpp.
#pragma once

#include <string>
#include <vector>

#include "cli/options.hpp"
#include "launcher/config.hpp"

namespace llmlaunch::cli {

/// What the options say about settings, each with the option as its place.
std::vector<launcher::ConfigValue> typed_values(const RunOptions& options);
std::vector<launcher::ConfigValue> typed_values(const ExecOptions& options);

/// A line each, in the order of the table of settings. `config` is the one with the options over it. exec has no use
/// for what is said about ranks: `for_ranks` is false.
std::string explained(const launcher::Config& config, const std::vector<launcher::ConfigValue>& typed, bool for_ranks);

}  // namespace llmlaunch::cli
