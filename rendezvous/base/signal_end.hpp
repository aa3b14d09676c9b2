/// \file
/// The end of a process that a signal has stopped and that has cleaned up.
#pragma once

namespace llmlaunch {

/// By SIGINT itself, or after any other signal with the exit status 128 + its number, which is what a shell makes of
/// both. But a script or a loop goes on after a child that exits with 130, which has dealt with Ctrl-C itself, and ends
/// only after one that died of it: https://www.cons.org/cracauer/sigint.html. Nothing is flushed, no exit handler runs.
[[noreturn]] void end_by_signal(int signal) noexcept;

}  // namespace llmlaunch
