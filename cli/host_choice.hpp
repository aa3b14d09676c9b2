/// \file
/// From words to hosts: expressions, host files, WCOLL and the allocation that a batch system tells of, over what the
/// configuration says of the same hosts. Used by exec, hosts and run. Files, stdin and environment are given.
#pragma once

#include <string>
#include <vector>

#include "cli/options.hpp"
#include "launcher/config.hpp"
#include "launcher/host_expression.hpp"

namespace llmlaunch::cli {

/// What hosts can be named by, beside words: this machine's files and stdin, its environment for WCOLL, SLURM_…, PBS_…
/// and LSB_….
struct HostWorld {
  launcher::HostSources sources;
  launcher::EnvList environment;
};
/// The real one. Files above a limit are refused.
HostWorld host_world(const launcher::EnvList& environment);

/// What the words come to. Nothing was named at all: the hosts of `file`, without the excluded ones.
struct HostChoice {
  std::vector<launcher::HostConfig> hosts;
  std::vector<std::string> written;  ///< of each host its name as it was written, with user and port
  bool slots_given = false;          ///< by a host file or an allocation
  std::vector<std::string> notes;    ///< to be said aloud
  bool named = false;                ///< false: they are the file's
};

/// Before `choose_hosts`: where no words name hosts, those that accelerate's sections name come into `file`, as for a
/// run. Once only: a filter holds for what was there before it. What is to be said is added to `file.notes`.
Result<void> take_sections_hosts(launcher::Config& file, const HostWords& words, const HostWorld& world);

/// A host that `file` has as well keeps its address, port, slots and the rest; what was written with the name wins.
/// `option` stands in messages for the expressions: "--hosts". Errors: `Errc::usage`, or `Errc::invalid_config` for
/// what a host file holds.
Result<HostChoice> choose_hosts(const launcher::Config& file, const HostWords& words, const HostWorld& world,
                                const std::string& option);

/// "host 'n1' is named twice", for commands that take a host once.
Result<void> check_named_once(const std::vector<launcher::HostConfig>& hosts);

}  // namespace llmlaunch::cli
