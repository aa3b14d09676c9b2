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

// Parts of it, which config_summary.cpp shows in another order.
/// "NAME=value"; a secret's value is masked, a long one cut.
std::string shown_entry(const std::string& name, const std::string& value);
/// "ranks 0-7"
std::string shown_ranks(const launcher::HostPlan& host);
/// "ssh train@10.0.0.1:2222 through gate"
std::string shown_way(const launcher::HostPlan& host);
std::string shown_workdir(const launcher::HostPlan& host);
/// Where the ranks meet.
std::string shown_rendezvous(const launcher::LaunchPlan& plan);
/// How the ranks run, where that is not as always: a line for each.
std::string shown_process(const launcher::LaunchPlan& plan);

}  // namespace llmlaunch::cli
