/// \file
/// Cgroups of jobs whose agent and watchman were both killed: nobody is in them any more, and nobody removes them. The
/// next agent that ends does. A cgroup that is empty may as well be one whose first rank is about to be started: so its
/// agent holds it, by a lock that ends with the agent.
#pragma once

#include <string>
#include <string_view>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

/// What the names of jobs' cgroups begin with.
inline constexpr std::string_view kCgroupPrefix = "llmlaunch-";

/// Keeps the directory, until the descriptor is closed. Invalid when it is gone already.
UniqueFd hold_cgroup(const std::string& path);

/// Removes those below `directory` that nobody holds and nobody is in. They are known by their names: the prefix, and
/// the date that a job's id begins with.
void remove_left_cgroups(const std::string& directory);

}  // namespace llmlaunch::launcher::agent
