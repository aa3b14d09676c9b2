/// \file
/// Versions of what the launcher speaks and is built on, for `llmlaunch version`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace llmlaunch::launcher {

struct ProtocolVersions {
  std::uint16_t agent = 0;
  std::uint16_t rendezvous = 0;
};
ProtocolVersions protocol_versions();

/// Name and version: of shared libraries the one that is loaded, of others the one that was built with.
std::vector<std::pair<std::string, std::string>> library_versions();

}  // namespace llmlaunch::launcher
