/// \file
/// `UniqueFd` as the launcher's and the agent's files know it.
#pragma once

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

using llmlaunch::UniqueFd;

}  // namespace llmlaunch::launcher::agent
