/// \file
/// `llmlaunch run`: from typed words and a file to a plan, and from a plan to a job's exit status.
#pragma once

#include <optional>
#include <string>

#include "cli/options.hpp"
#include "launcher/config.hpp"
#include "launcher/host_expression.hpp"
#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// The file's values overlaid by what was typed. `environment` is the head's own, for `--env NAME`. Host files are read
/// through `sources`.
Result<launcher::Config> with_options(launcher::Config config, const RunOptions& options,
                                      const launcher::EnvList& environment, const launcher::HostSources& sources = {});

// What exec shares with run.
/// `--env NAME[=VALUE]` over the file's and the hosts' own.
Result<void> overlay_env(launcher::Config& config, const std::string& entry, const launcher::EnvList& environment);
/// The configuration of a command; without a file what --set and variables say. Warns of misspelt variables.
Result<launcher::Config> read_config_file(const launcher::ConfigInput& input, const std::string& cwd);
LogLevel log_level_of(Verbosity verbosity);
/// What a launch shows where: colours and the live line, as this terminal has them.
launcher::LaunchOptions launch_options(const std::string& agent, Verbosity verbosity, bool no_progress);
/// For --dry-run: the plan to stdout; the status to exit with.
int print_plan(const launcher::LaunchPlan& plan, bool json = false);
/// The same for any other answer; `what` is "the plan".
int print_answer(const std::string& text, const std::string& what);

/// Prints its own errors; returns the status to exit with. `join_token` is what take_join_token() found.
int run_command(const RunOptions& options, const std::optional<std::string>& join_token);

}  // namespace llmlaunch::cli
