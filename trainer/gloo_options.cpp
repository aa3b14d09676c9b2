// GLOO_SOCKET_IFNAME and LLMLAUNCH_SHM_DISABLE. Called once, before the ranks connect.
#include "trainer/gloo_options.hpp"

#include <cstdlib>

#include "rendezvous/base/env.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

Result<GlooOptions> gloo_options_from_environment() {
  GlooOptions options;
  if (const char* interface = std::getenv(env::kGlooInterface); interface != nullptr) options.interface = interface;
  const auto disabled = switch_in_environment(env::kShmDisable);
  if (!disabled) return disabled.error();
  options.share_memory = !*disabled;
  return options;
}

}  // namespace llmlaunch::trainer
