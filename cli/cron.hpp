/// \file
/// `--cron`: silence, and one summary fit for mail when something failed. Used by run.
#pragma once

#include <string>
#include <vector>

#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::cli {

/// A mail of cron that is longer is not read.
inline constexpr std::size_t kMaxSummaryLines = 40;

/// What failed and where, its last lines, what was said before, where the logs are. `plan` is null when there was none.
/// Long texts lose their middle. Ends with a newline.
std::string cron_summary(const Error& failure, int exit_status, const launcher::LaunchPlan* plan,
                         const std::string& run_directory, const std::vector<std::string>& said);

/// From now on llmlaunch's own lines are kept in `said` instead of being printed; the job's sink replaces it while it
/// runs.
void keep_what_is_said(std::vector<std::string>& said);

}  // namespace llmlaunch::cli
