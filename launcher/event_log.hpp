/// \file
/// `EventLog`: what happens to a job, as one JSON object a line, in `<run directory>/events.jsonl` and where
/// `--json-events` says. EVENTS.md has the fields. Owned by `Job`; called on the event loop; never waits for a reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "launcher/roll_call.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

/// Kept for a reader that takes nothing; what comes beyond is left out, and the gap in `seq` shows it.
inline constexpr std::size_t kMaxPendingEventBytes = 1u << 20;
/// At the end of a job, for a reader that is behind.
inline constexpr std::chrono::milliseconds kEventPatience{1'000};

/// The word of a stage in events.
const char* stage_word(HostStage stage);

/// A file, a FIFO (nobody need read it yet) or the number of an open descriptor. A file is made with mode 0600 and
/// begins anew. Errors: `Errc::usage` for a number that is not open, else what the system says.
Result<UniqueFd> open_events(const std::string& where);

class EventLog {
 public:
  /// Either may be empty: no run directory is made, no reader was asked for.
  static Result<EventLog> open(const std::string& run_directory, const std::string& json_events);

  void job_started(const LaunchPlan& plan, const std::string& run_directory);
  /// Said when it differs from the last one of this host.
  void host(const LaunchPlan& plan, std::size_t host, HostStage stage, const std::string& reason);
  /// Where the host's ranks find the rendezvous.
  void address(const HostPlan& host, const HostAddress& address);
  void rank_started(const HostPlan& host, const agent::Started& started);
  void rank_exited(const HostPlan& host, const agent::Exited& exited);
  /// The first thing that went wrong, and that everything is stopped for it.
  void stopping(const std::string& reason);
  void job_ended(const JobResult& result);

  /// Tries again to write what a reader has not taken.
  void flush();

 private:
  struct Target {
    UniqueFd fd;
    std::string name;
    bool is_socket = false;
    bool is_file = false;
    bool gone = false;
    std::string pending;
  };
  void add(Target target);
  void write(std::string line);
  void push(Target& target);

  std::vector<Target> targets_;
  std::vector<HostStage> stages_;
  std::uint64_t seq_ = 0;
};

}  // namespace llmlaunch::launcher
