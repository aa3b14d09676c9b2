/// \file
/// `llmlaunch config check FILE`: reads, checks and describes a configuration. Contacts no host, changes nothing.
#pragma once

#include "cli/options.hpp"

namespace llmlaunch::cli {

/// What it comes to goes to stdout, warnings and errors to stderr. The exit status: 0, or 78 when no run would start.
int config_check_command(const ConfigCheckOptions& options);

}  // namespace llmlaunch::cli
