/// \file
/// Processes of a job whose agent and watchman were both killed: nobody is their parent who would end them, and a
/// control group is not had everywhere. What a job's processes have in common is what the agent put into their
/// environment.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace llmlaunch::launcher::agent {

/// Processes of this user that have every one of these "NAME=value" in the environment they were started with, this
/// one left out.
std::vector<pid_t> processes_with(const std::vector<std::string>& variables);

/// SIGKILL to all of them, again and again until none is found, for a second at most. What is left then: it hangs in
/// the kernel.
std::vector<pid_t> kill_processes_with(const std::vector<std::string>& variables);

}  // namespace llmlaunch::launcher::agent
