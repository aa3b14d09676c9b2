/// \file
/// What --dry-run and --explain say of a job whose machines are started one by one.
#pragma once

#include <string>

#include "launcher/config.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::cli {

/// Lines of the plan: which machine this is, and where the token comes from, never the token. Empty for other jobs.
std::string shown_machines(const launcher::LaunchPlan& plan);

/// The same behind the settings of --explain, where the machine's place may not be known yet.
std::string explained_machines(const launcher::Config& config, const launcher::EnvList& environment);

}  // namespace llmlaunch::cli
