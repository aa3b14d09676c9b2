// The launcher knows its own libraries; the trainer's are known from the build, as it is another program.
#include "cli/version.hpp"

#include <fmt/format.h>

#include <string_view>

#include "launcher/versions.hpp"

namespace llmlaunch::cli {

std::string version_text() {
  constexpr std::string_view kNccl = LLMLAUNCH_NCCL_VERSION;
  std::string libraries;
  for (const auto& [name, version] : launcher::library_versions())
    libraries += fmt::format("{}{} {}", libraries.empty() ? "" : ", ", name, version);
  const auto protocols = launcher::protocol_versions();
  return fmt::format("llmlaunch {}\nprotocols: agent {}, rendezvous {}\nlibraries: {}\ntrainer:   CPU{}\n",
                     LLMLAUNCH_VERSION, protocols.agent, protocols.rendezvous, libraries,
                     kNccl.empty() ? std::string(" alone") : fmt::format(", CUDA with NCCL {}", kNccl));
}

}  // namespace llmlaunch::cli
