/// \file
/// The hint of every error that is a thread which cannot be made: nearly always it is one of these.
#pragma once

namespace llmlaunch {

inline constexpr const char* kSeeThreadLimits = "see ulimit -u, ulimit -v and the cgroup's pids.max";

}  // namespace llmlaunch
