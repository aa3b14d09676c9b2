/// \file
/// The agent's process on this machine, for local_shell.cpp.
#pragma once

#include <sys/types.h>

#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// The caller owns the descriptors, and waits for the process.
struct LocalChild {
  pid_t pid = -1;
  int channel = -1;  ///< a socket: the agent's stdin and stdout
  int errors = -1;   ///< a pipe: its stderr
};

/// Starts the program in a process group of its own. `Errc::no_program` when it cannot be executed.
Result<LocalChild> fork_local_agent(const std::string& path);

}  // namespace llmlaunch::launcher
