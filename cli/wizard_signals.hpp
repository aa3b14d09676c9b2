/// \file
/// Signals while questions are asked: SIGINT, SIGTERM, SIGHUP and SIGQUIT are noted, and end what waits.
#pragma once

namespace llmlaunch::cli {

/// For its lifetime the four signals are noted instead of ending the process; once at a time.
class NotedSignals {
 public:
  NotedSignals();
  ~NotedSignals();
  NotedSignals(const NotedSignals&) = delete;
  NotedSignals& operator=(const NotedSignals&) = delete;
};

/// The first one that came; 0: none.
int caught_signal();

}  // namespace llmlaunch::cli
