/// \file
/// Which of the user's keys a sign-in would try first: the one to install on a host that takes none yet.
#pragma once

#include <string>
#include <vector>

#include "launcher/key_install.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

/// For each host of the plan. Reads the ssh configuration, key files and the ssh-agent's list; asks nobody. In the
/// order of sign_in.cpp: the agent's keys that belong to an identity file, the files themselves, the agent's other
/// keys, unless IdentitiesOnly. Certificates and keys of hardware count for none. Errors are those of the ssh
/// configuration.
Result<std::vector<OwnKey>> own_keys(const LaunchPlan& plan);

}  // namespace llmlaunch::launcher::ssh
