/// \file
/// What every TCP connection of a job has: the server's, its clients', those of machines that call in, and ssh's.
#pragma once

#include <chrono>

namespace llmlaunch {

inline constexpr std::chrono::milliseconds kUsualSilence{60'000};

/// Small messages leave at once, and a peer that lost power is noticed after about `silence`: by probes when nothing is
/// on its way (after half of that time, then three), and by the kernel's limit for what is not acknowledged. That
/// limit also ends a connection whose peer takes no byte for so long. Best effort: the connection works without.
void tune_connection(int fd, std::chrono::milliseconds silence = kUsualSilence);

}  // namespace llmlaunch
