/// \file
/// `llmlaunch hosts`: lists of hosts as text, in and out. Contacts no host.
#pragma once

#include <cstdint>
#include <string>

#include "cli/host_choice.hpp"
#include "cli/options.hpp"

namespace llmlaunch::cli {

/// What is printed for these hosts. `chance` decides for --pick. Errors: `Errc::usage`.
Result<std::string> text_of_hosts(HostChoice choice, const HostsOptions& options, std::uint64_t chance);

/// Prints its own errors; returns the status to exit with.
int hosts_command(const HostsOptions& options);

}  // namespace llmlaunch::cli
