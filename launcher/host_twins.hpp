/// \file
/// Several names for one sshd: their ranks share its cores and GPUs, which is rarely meant. Called by make_plan. A
/// warning and no error, as people try out many hosts on one machine in this way.
#pragma once

#include <string>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// `hosts` are those of `plan`, in its order. One note for all hosts that are reached at the same address and port by
/// the same way, at the place of the second. Addresses are compared as they are written, IPv6 in any spelling; none is
/// looked up, so that two names in DNS for one machine stay unseen.
void note_host_twins(const std::vector<HostConfig>& hosts, const LaunchPlan& plan, std::vector<std::string>& notes);

}  // namespace llmlaunch::launcher
