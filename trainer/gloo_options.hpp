/// \file
/// What the environment says of Gloo.
#pragma once

#include "rendezvous/base/result.hpp"
#include "trainer/gloo_comm.hpp"

namespace llmlaunch::trainer {

/// `interface` and `share_memory` as the environment says. `Errc::invalid_config` names a variable that is no switch.
Result<GlooOptions> gloo_options_from_environment();

}  // namespace llmlaunch::trainer
