/// \file
/// The process behind setup_script.hpp: the login shell with its pipes. The loop polls and reads them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

struct SetupProcess {
  pid_t pid = -1;
  UniqueFd report;  ///< read ends, non-blocking
  UniqueFd noise;   ///< stdout and stderr
};

/// Starts `shell` as a login shell on `script`, in `workdir`, with a process group of its own, /dev/null as stdin, and
/// SIGKILL as soon as the agent dies.
Result<SetupProcess> start_setup(const std::string& shell, const std::string& script,
                                 const std::vector<std::string>& environment, const std::string& workdir);

}  // namespace llmlaunch::launcher::agent
