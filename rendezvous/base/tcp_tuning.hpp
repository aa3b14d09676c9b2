/// \file
/// What every TCP connection of a job has: the server's, its clients', and those of machines that call in.
#pragma once

namespace llmlaunch {

/// Small messages leave at once, and a peer that lost power is noticed after about a minute (30 s of silence, then
/// three probes, 10 s apart). Best effort: the connection works without.
void tune_connection(int fd);

}  // namespace llmlaunch
