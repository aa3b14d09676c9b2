/// \file
/// The keys of `llmlaunch:` about how ranks run: limits, umask, cpu_bind, stdin, forward_signals, setup, rank_env,
/// forward_env, gpu_ids. Called by the other config_*.cpp alone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/config_reader.hpp"

namespace llmlaunch::launcher {

/// limits, umask, cpu_bind, stdin, forward_signals, setup, rank_env of `llmlaunch:`.
void read_process_settings(MapReader& map, Config& config);

void read_forward_env(MapReader& map, Config& config);
/// Variables whose values are checked templates.
EnvList read_rank_env(MapReader& map);
std::vector<std::string> read_setup(MapReader& map);
/// "all", or "0,2"; nothing when it is not given.
std::optional<std::string> read_gpu_ids(MapReader& map);

}  // namespace llmlaunch::launcher
