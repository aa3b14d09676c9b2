/// \file
/// How much this process has read from files and pipes, with all children that it has waited for.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace llmlaunch::test {

/// Nothing where the kernel does not count it.
inline std::optional<std::int64_t> bytes_read() {
  std::ifstream in("/proc/self/io");
  std::string name;
  std::int64_t count = 0;
  if (!(in >> name >> count) || name != "rchar:") return std::nullopt;
  return count;
}

}  // namespace llmlaunch::test
