/// \file
/// What a configuration comes to, for `llmlaunch config check`: hosts, ranks, addresses, and where the environments of
/// hosts differ. A plan (dry_run.hpp) says the same at length, for each rank.
#pragma once

#include <string>

#include "launcher/config.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::cli {

/// `config` is what `plan` was made of. Values of secrets are masked.
std::string describe_config(const launcher::Config& config, const launcher::LaunchPlan& plan);

}  // namespace llmlaunch::cli
