/// \file
/// Two names for one sshd: ranks of two hosts would share its GPUs, and two agents its cores. Called by make_plan.
#pragma once

#include <vector>

#include "launcher/config.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// `hosts` are those of `plan`, in its order. `Errc::invalid_config`, at the second of two that are reached at the same
/// address and port by the same way. Addresses are compared as they are written, IPv6 in any spelling; none is looked
/// up, so that two names in DNS for one machine stay unseen.
Result<void> check_host_twins(const std::vector<HostConfig>& hosts, const LaunchPlan& plan);

}  // namespace llmlaunch::launcher
