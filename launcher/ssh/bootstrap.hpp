/// \file
/// The one command line that ssh runs on a host: finds the agent in a cache directory by its hash, or asks for its
/// bytes on stdin, and becomes the agent. What it prints is read by `AgentGreeting` (launcher/agent_greeting.hpp).
///
///     "\n"                               ends an unended line of an rc file
///     LLMLAUNCH NEED <hash>              the head sends exactly `agent_size` bytes, and then waits for the marker
///     LLMLAUNCH FAIL <reason>            the command ends with status 69
///     LLMLAUNCH AGENT <version>          printed by the agent itself
///
/// The command takes exactly `agent_size` bytes, whatever follows them at once. All the same the head sends no frame
/// before it has read the marker, so that a tool that reads ahead could not eat one.
#pragma once

#include <cstddef>
#include <string>

namespace llmlaunch::launcher::ssh {

/// Right for every login shell that knows `exec` and single quotes (sh, bash, zsh, ksh, csh, tcsh, fish). `agent_hash`
/// is 64 hex digits, `machine` the head's `uname -m` ("x86_64"): the agent runs on nothing else.
std::string bootstrap_command(const std::string& agent_hash, std::size_t agent_size, const std::string& machine);

}  // namespace llmlaunch::launcher::ssh
