/// \file
/// A file that was given in the place of another kind: said at once, instead of what is wrong with its first line.
#pragma once

#include <string_view>

namespace llmlaunch::launcher {

/// A line begins with a key that only accelerate's and llmlaunch's configurations have.
bool looks_like_configuration(std::string_view text);

/// Every line is a host, or hosts, perhaps with slots behind it; no line is one of YAML. Not a single word alone.
bool looks_like_hostfile(std::string_view text);

}  // namespace llmlaunch::launcher
