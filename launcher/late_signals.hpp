/// \file
/// Signals to a job whose end is decided: who asks again and again, or twice as coreutils' timeout does, shall not cut
/// off the words that say how it ended.
#pragma once

#include <chrono>

namespace llmlaunch::launcher {

/// From now on signal `number` has its default effect, which ends the process, but none within the first `moment`.
/// For all threads; may be called again.
void take_late_signal(int number, std::chrono::milliseconds moment);

}  // namespace llmlaunch::launcher
