/// \file
/// `llmlaunch exec`: one command on many hosts, with the machinery of run and another policy.
#pragma once

#include <string>

#include "cli/host_choice.hpp"
#include "cli/options.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::cli {

/// The configuration for one command on each of the chosen hosts: what it says of ssh, environment and places holds,
/// what it says of ranks does not. `command` is the word that people typed: env chooses its hosts in the same way.
/// Errors: `Errc::usage`.
Result<launcher::Config> with_exec_options(launcher::Config config, const ExecOptions& options, const HostWorld& world,
                                           const std::string& command = "exec");

/// Does the command begin with what the shell made of an unquoted pattern of hosts? `exists` tells of files here.
/// -w n[1-3] becomes -w n1 n2 n3 where such files are: then n2 would be the program.
bool is_glob_accident(const ExecOptions& options, bool (*exists)(const std::string& path));

/// Prints its own errors; returns the status to exit with.
int exec_command(const ExecOptions& options);

}  // namespace llmlaunch::cli
