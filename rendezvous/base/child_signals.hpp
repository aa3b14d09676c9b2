/// \file
/// Signals of a child between fork, or vfork, and exec: a handler of the parent must not run there. Used for ranks,
/// agents and ProxyCommands. System calls and nothing else, so that it is safe in a child of a program with threads.
#pragma once

namespace llmlaunch {

enum class IgnoredSignals {
  kept,      ///< stay ignored, as under nohup; but SIGPIPE and SIGXFSZ, which the parent ignores for its own sake
  defaulted  ///< have their default, too
};

/// No signal has a handler any more, and then none is blocked. The parent blocks all of them around its fork; what must
/// be done before one can arrive, setpgid for example, comes before this.
void reset_signals(IgnoredSignals ignored);

}  // namespace llmlaunch
