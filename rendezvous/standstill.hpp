/// \file
/// Time in which the process stood still (Ctrl-Z, SIGSTOP): nobody could keep a deadline meanwhile.
#pragma once

#include <algorithm>
#include <chrono>

namespace llmlaunch {

/// A loop that runs is never so late.
inline constexpr std::chrono::milliseconds kStoodStill{1'000};

/// How much of its time a deadline has again that is looked at so `late`: nothing, or, when the process must have stood
/// still, as long as it stood, and at most all of it.
inline std::chrono::milliseconds time_again(std::chrono::milliseconds after, std::chrono::steady_clock::duration late) {
  if (late < kStoodStill) return std::chrono::milliseconds(0);
  return std::min(after, std::chrono::duration_cast<std::chrono::milliseconds>(late));
}

}  // namespace llmlaunch
