/// \file
/// The limits of setrlimit by the names that `ulimit`'s people use. The head checks names with this table, the agent
/// sets the limits; both are one release.
#pragma once

#include <sys/resource.h>

#include <array>
#include <string_view>

namespace llmlaunch::launcher::agent {

struct LimitName {
  std::string_view name;
  int resource;
  bool bytes;  ///< a size, which people write with K, M, G
};

inline constexpr std::array<LimitName, 14> kLimitNames{{
    {"as", RLIMIT_AS, true},
    {"core", RLIMIT_CORE, true},
    {"cpu", RLIMIT_CPU, false},  // seconds
    {"data", RLIMIT_DATA, true},
    {"fsize", RLIMIT_FSIZE, true},
    {"locks", RLIMIT_LOCKS, false},
    {"memlock", RLIMIT_MEMLOCK, true},
    {"msgqueue", RLIMIT_MSGQUEUE, true},
    {"nofile", RLIMIT_NOFILE, false},
    {"nproc", RLIMIT_NPROC, false},
    {"rss", RLIMIT_RSS, true},
    {"rtprio", RLIMIT_RTPRIO, false},
    {"sigpending", RLIMIT_SIGPENDING, false},
    {"stack", RLIMIT_STACK, true},
}};

/// nullptr for a name that is none.
inline const LimitName* limit_named(std::string_view name) {
  for (const LimitName& limit : kLimitNames)
    if (limit.name == name) return &limit;
  return nullptr;
}

}  // namespace llmlaunch::launcher::agent
