/// \file
/// A plan as text for `--dry-run`: who would run what, where, with which environment.
#pragma once

#include <string>
#include <string_view>

#include "launcher/plan.hpp"

namespace llmlaunch::cli {

/// Ends with a newline. Values of variables whose names look like secrets are masked, long ones are cut.
std::string describe_plan(const launcher::LaunchPlan& plan);

/// A word as a POSIX shell (bash for control bytes, as $'…') would have to be given it.
std::string shell_quoted(std::string_view word);

}  // namespace llmlaunch::cli
