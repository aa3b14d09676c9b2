/// \file
/// The text of a small file, such as those below /proc and /sys; and directories.
#pragma once

#include <cstddef>
#include <string>

namespace llmlaunch::launcher::agent {

/// At most `max_bytes` of it; empty when it cannot be read.
std::string small_file(const std::string& path, std::size_t max_bytes);

/// mkdir -p, for this user alone. What cannot be made shows when the directory is used.
void make_directories(const std::string& path);

}  // namespace llmlaunch::launcher::agent
