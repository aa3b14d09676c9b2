/// \file
/// `llmlaunch run`: from typed words and a file to a plan, and from a plan to a job's exit status.
#pragma once

#include "cli/options.hpp"
#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// The file's values overlaid by what was typed. `environment` is the head's own, for `--env NAME`.
Result<launcher::Config> with_options(launcher::Config config, const RunOptions& options,
                                      const launcher::EnvList& environment);

/// Prints its own errors; returns the status to exit with.
int run_command(const RunOptions& options);

}  // namespace llmlaunch::cli
