/// \file
/// Processes of a job whose agent and watchman were both killed: nobody is their parent who would end them, and a
/// control group is not had everywhere. What a job's processes have in common is what the agent put into their
/// environment; one that writes over it is not found.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::agent {

/// Processes of this user that have every one of these "NAME=value" in their environment and no agent above them,
/// which would be theirs and ends them itself. The error: /proc cannot be read.
Result<std::vector<pid_t>> orphans_with(const std::vector<std::string>& variables);

/// SIGKILL to all of them, again and again until none is found, for about a second. What is left then: it hangs in the
/// kernel.
Result<std::vector<pid_t>> kill_orphans_with(const std::vector<std::string>& variables);

}  // namespace llmlaunch::launcher::agent
