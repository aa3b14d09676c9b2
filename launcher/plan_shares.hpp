/// \file
/// The hosts of a plan and their numbers of ranks. Private to plan*.cpp; pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// `Errc::invalid_config` where the key was given.
Error wrong(const Config& config, std::string_view key, std::string what, std::string hint = {});

/// The hosts as configured, the machines that are started one by one, or this machine.
std::vector<HostConfig> configured_hosts(const Config& config, StartPolicy policy);
/// That each is named once, and that num_machines and machine_rank fit them.
Result<void> check_hosts(const Config& config, const std::vector<HostConfig>& hosts);
/// Ranks on each host.
Result<std::vector<std::uint32_t>> share_out(const Config& config, const std::vector<HostConfig>& hosts);

}  // namespace llmlaunch::launcher
