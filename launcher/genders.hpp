/// \file
/// A genders file, as pdsh -g reads it → hosts and a group for each attribute. Pure.
///
///     node[1-4],login   gpu,rack=r1      # hosts, then attributes; a line without attributes is allowed
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

struct Genders {
  std::vector<HostConfig> hosts;                           ///< in the order in which they first stand
  std::map<std::string, std::string, std::less<>> groups;  ///< "gpu" → "node[1-4]"; of rack=r1: "rack-r1"
};

/// Does the text look like one rather than like a list of hosts?
bool looks_like_genders(std::string_view text);

/// Errors: `Errc::invalid_config` with file and line.
Result<Genders> parse_genders(std::string_view text, const std::string& name);

}  // namespace llmlaunch::launcher
