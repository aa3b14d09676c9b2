/// \file
/// `llmlaunch env`.
#pragma once

#include "cli/options.hpp"

namespace llmlaunch::cli {

/// Prints its own errors; returns the status to exit with.
int env_command(const EnvOptions& options);

}  // namespace llmlaunch::cli
