/// \file
/// The agent's watchman: a second process that stays outside and does nothing until the agent is gone. When the agent
/// was killed, it kills every process that the agent had below it, whatever group or session that process chose.
#pragma once

#include "launcher/agent/job_cgroup.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::agent {

/// Forks. Returns in the new process, which becomes the agent and gets SIGTERM if the watchman dies; the old one
/// watches, passes on SIGTERM and SIGINT, and ends with the agent's status. Leaves SIGCHLD, SIGTERM and SIGINT blocked.
Result<void> fork_under_guard(const CgroupPath& cgroup);

}  // namespace llmlaunch::launcher::agent
