/// \file
/// Hosts from accelerate's sections: deepspeed_hostfile with its filters, mpirun_hostfile. Used by every command with
/// hosts where the command line names none.
///
/// A filter is DeepSpeed's: hosts with "@" between them, each with ":" and slots behind it, or without for all of them:
/// "gpu01@gpu02:0,2". An inclusion filter takes what it names, an exclusion filter leaves that out; the order of the
/// hosts stays. A slot is a GPU.
#pragma once

#include "launcher/config.hpp"
#include "launcher/host_expression.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Is there a host file that the hosts come from, unless llmlaunch.hosts are given?
bool names_host_file(const Config& config);

/// llmlaunch.hosts win over a host file; filters hold for both. What a filter leaves is the world: num_processes and
/// num_machines, which count the hosts before it, are forgotten, which is noted where it makes a difference.
/// Errors: `Errc::invalid_config` at the key or in the host file; what `sources.read_file` says.
Result<void> take_accelerate_hosts(Config& config, const HostSources& sources);

}  // namespace llmlaunch::launcher
