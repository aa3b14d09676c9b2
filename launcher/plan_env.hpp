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

/// What forward_env picks from the head's environment: what a pattern names and no "!…" takes away, in whatever order
/// they stand. A plain name that is not set there is noted; a pattern may match nothing.
EnvList forwarded(const Config& config, const HeadFacts& head, std::vector<std::string>& notes);

/// llmlaunch.cpu_bind, else what accelerate's enable_cpu_affinity asks for.
agent::CpuBind cpu_bind_of(const Config& config);
/// Says so where both are given and differ.
void note_cpu_affinity(const Config& config, std::vector<std::string>& notes);

/// The same for all ranks of the host, whose ranks and node_rank are set; `accelerate`: of accelerate_env, for as many
/// ranks. A later layer wins: forwarded, accelerate's
/// keys, llmlaunch.env, the host's env; what llmlaunch sets itself comes last.
EnvList env_of_host(const Config& config, const HostConfig& from, const HostPlan& host, const LaunchPlan& plan,
                    const EnvList& picked, const EnvList& accelerate);
/// A rank's own, over the host's: llmlaunch.rank_env, the host's rank_env, then its place in the world, if there is
/// one.
EnvList env_of_rank(const Config& config, const HostConfig& from, const HostPlan& host, const RankPlan& rank,
                    const LaunchPlan& plan);

/// Somebody has set OMP_NUM_THREADS for ranks of this host.
bool has_omp_threads(const HostPlan& host);
/// Ranks that see fewer GPUs than there are of them.
void note_few_devices(const HostPlan& host, std::vector<std::string>& notes);

}  // namespace llmlaunch::launcher
