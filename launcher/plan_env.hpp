/// \file
/// The environment half of a plan: what every rank of a host finds, and who said so. Private to plan.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// Where a key of the configuration was given: "cfg.yaml:5:1", "--hosts", or the file.
std::string place_of(const Config& config, std::string_view key);

/// The value of the first variable of that name, or nullptr. Points into `list`.
const std::string* value_of(const EnvList& list, std::string_view name);

/// The job stays on the CPU, whatever the hosts have.
bool on_cpu(const Config& config);

/// What forward_env picks from the head's environment. A plain name that is not set there is noted; a pattern may match
/// nothing.
EnvList forwarded(const Config& config, const HeadFacts& head, std::vector<std::string>& notes);

/// The same for all ranks of the host, whose ranks and node_rank are set. A later layer wins: forwarded, accelerate's
/// keys, llmlaunch.env, the host's env; what llmlaunch sets itself comes last.
EnvList env_of_host(const Config& config, const HostConfig& from, const HostPlan& host, const LaunchPlan& plan,
                    const EnvList& picked, const HeadFacts& head);

}  // namespace llmlaunch::launcher
