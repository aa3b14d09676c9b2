/// \file
/// `--include`, `--exclude` and `--nodes`: some of the hosts that a run has, and some of their GPUs, as DeepSpeed's
/// options of these names choose them. Used by the overlay of run.
#pragma once

#include <vector>

#include "cli/host_choice.hpp"
#include "cli/options.hpp"
#include "launcher/config.hpp"

namespace llmlaunch::cli {

inline bool filters_hosts(const RunOptions& options) {
  return options.include || options.exclude || options.nodes;
}

/// Those of `config.hosts` that stay, in their order. A word is DeepSpeed's "n1:0,2@n2" when its names are all hosts of
/// the configuration, else a host expression. First --include, then --exclude, then --nodes by the places that are
/// left. Errors: `Errc::usage` for a host that is not there, GPUs that are not known, and when nothing is left.
Result<std::vector<launcher::HostConfig>> filtered_hosts(const launcher::Config& config, const RunOptions& options,
                                                         const HostWorld& world);

}  // namespace llmlaunch::cli
