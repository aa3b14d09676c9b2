/// \file
/// Are the hosts of a plan different machines? Private to plan.cpp.
#pragma once

#include <vector>

#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Refuses two names for one sshd: the same address (however it is written) and port, by the same jump hosts. Names are
/// not looked up: that may block, and the head may see other addresses than a jump host does. `Errc::invalid_config`,
/// at the second of the two.
Result<void> check_one_name_each(const Config& config, const std::vector<HostConfig>& hosts);

}  // namespace llmlaunch::launcher
