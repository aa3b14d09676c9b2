/// \file
/// What the ssh configuration says of a host of a plan, and who reads it.
#pragma once

#include "launcher/plan.hpp"
#include "launcher/ssh/ssh_config.hpp"

namespace llmlaunch::launcher::ssh {

/// The user of this process: environment, and the password file where HOME or USER are missing (cron, containers).
LocalUser local_user();

/// The settings of the host's name, with the plan's user, port, address and keys over them. Not its way there.
HostSettings settings_of(const SshConfig& config, const HostPlan& host);

/// "~/x" below the user's home.
std::string expanded_path(const std::string& path, const LocalUser& user);

}  // namespace llmlaunch::launcher::ssh
