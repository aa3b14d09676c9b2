/// \file
/// `Config` → the variables that accelerate's launcher would have given to a worker. Pure; private to the plan and to
/// the reading of sections.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "launcher/config.hpp"

namespace llmlaunch::launcher {

/// The job stays on the CPU, whatever the hosts have.
bool on_cpu(const Config& config);

/// Why a section of accelerate's changes nothing in this job: "distributed_type is MULTI_GPU"; empty when it does.
std::string why_without_effect(std::string_view section, const Config& config);

/// ACCELERATE_*, FSDP_*, MEGATRON_LM_* … for all ranks of a host that has so many.
EnvList accelerate_env(const Config& config, std::size_t ranks_on_host);

}  // namespace llmlaunch::launcher
