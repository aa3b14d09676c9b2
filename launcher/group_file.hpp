/// \file
/// Groups of hosts from a file of their own, as ClusterShell's group files have them (YAML), for `@name` in host
/// expressions. Pure. Used by cli/host_choice.cpp.
///
///     gpu: gpu[01-16]             @gpu; a host expression, a list of them, or nothing for an empty group
///     racks:                      a source of groups: @racks:r1, @racks:*; @@racks are the names of its groups
///       r1: gpu[01-08]
///       rest: '@gpu!@r1'          inside a source a name without one means the source's own, if it has such a group
///
/// The groups of the first source are there without its name as well, unless that is a group already.
#pragma once

#include <map>
#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// "gpu" or "racks:r1" → host expression.
using HostGroups = std::map<std::string, std::string, std::less<>>;

/// `name` stands in messages. Errors: `Errc::invalid_config` with file, line and column.
Result<HostGroups> parse_group_file(const std::string& text, const std::string& name);

}  // namespace llmlaunch::launcher
