/// \file
/// Carries out a `LaunchPlan`: agents, gang start, rendezvous, logs, stop. Returns when nothing of the job is left.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/plan.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::rendezvous {
class HeldPort;
}

namespace llmlaunch::launcher {

/// How one rank ended.
struct RankEnd {
  enum class Kind { not_started, exited, signaled, stopped, lost };  ///< stopped: by us, after another's failure
  Rank rank{};
  std::string host;
  std::int64_t pid = 0;
  Kind kind = Kind::not_started;
  int value = 0;          ///< exit status or signal number
  bool signaled = false;  ///< `value` is a signal; of kinds signaled and stopped
  bool core_dumped = false;
  std::uint64_t ended_wall_ns = 0;  ///< the host's clock, since 1970
};

/// How one host of a `StartPolicy::each_host` job ended.
struct HostEnd {
  enum class Kind {
    not_started,  ///< the job was stopped before
    failed,       ///< nothing could be started there: `failure` says why
    lost,         ///< started, and then not heard of any more: `failure`
    timed_out,    ///< stopped by llmlaunch after LaunchPlan::host_timeout
    stopped,      ///< stopped by llmlaunch, or by someone on the host who ended its agent
    signaled,
    exited,
  };
  std::string host;
  Kind kind = Kind::not_started;
  int value = 0;  ///< exit status or signal number; of kinds exited and signaled
  bool core_dumped = false;
  std::optional<Error> failure;
  std::chrono::milliseconds connect{0};  ///< from the first try to connect until it was ready
  std::chrono::milliseconds run{0};      ///< from the start of the command to its end, as the head heard of both
  std::chrono::steady_clock::time_point ended{};  ///< when the head heard of its end; unset: never
};

/// What `exit_status` can be beside a rank's own; sysexits.h and the shells' habit.
inline constexpr int kStatusUnavailable = 69;  ///< a host or the rendezvous
inline constexpr int kStatusInternal = 70;
inline constexpr int kStatusLogsIncomplete = 74;  ///< all ranks ended well, but the run directory lacks output
inline constexpr int kStatusConfig = 78;
inline constexpr int kStatusTimedOut = 124;
inline constexpr int kStatusNotExecutable = 126;
inline constexpr int kStatusNoProgram = 127;

/// Where the ranks of a host found the rendezvous.
struct HostAddress {
  std::string rendezvous;  ///< "10.0.0.1:29400"
  std::string interface;   ///< of the host, towards the head; empty: not known, or loopback
};

struct JobResult {
  int exit_status = 0;  ///< as cli/exit_status.hpp documents it
  /// The headline: the first failing rank or host, in whole sentences of several lines, to be printed once, as it is.
  /// Its code: rank_failed, no_program …, unreachable …, timed_out, interrupted, io (log files incomplete), internal.
  std::optional<Error> failure;
  std::vector<RankEnd> ranks;
  std::vector<HostEnd> hosts;          ///< of StartPolicy::each_host, in the plan's order; else empty
  std::vector<HostAddress> addresses;  ///< of each host of the plan; empty: no rank was started
  std::string run_directory;           ///< empty when none was made
};

class CallToken;
class GatheredOutput;
struct HostKeyDesk;

struct LaunchOptions {
  std::string agent_path;  ///< llmlaunch-agent on the head
  int stdin_fd = 0;        ///< read only when the plan's stdin goes to a rank
  int stdout_fd = 1;       ///< ranks' stdout lines; a slow reader slows the ranks down
  int stderr_fd = 2;       ///< ranks' stderr lines
  bool quiet = false;
  bool stdout_colors = false;
  bool stderr_colors = false;
  bool live_line = false;     ///< stderr is a terminal and shows how far the hosts are
  std::string timeline;       ///< where the times of the hosts' stages go (timeline.hpp); empty: nowhere
  std::string json_events;    ///< a file, a FIFO, or the number of an open descriptor (event_log.hpp); empty: none
  bool batch = false;         ///< nobody is asked anything, as if there were no terminal
  bool ask_password = false;  ///< one password is asked for before the first connection; Errc::usage without terminal
  HostKeyDesk* host_keys = nullptr;  ///< unknown host keys, and those that a person has accepted; outlives the job
  GatheredOutput* gather = nullptr;  ///< ranks' output goes there instead of to the descriptors; outlives the job
  /// Every line of llmlaunch's own that goes to `stderr_fd`, as it stands there. May be called on any thread; it
  /// stays the log's sink when the job has ended, and outlives that.
  std::function<void(LogLevel, std::string_view line)> on_said;
  const CallToken* call_token = nullptr;       ///< of a plan that is `per_machine`; outlives the job
  std::shared_ptr<rendezvous::HeldPort> port;  ///< of hold_port: the job takes it over; empty: it is opened
  std::optional<std::size_t> ssh_workers;  ///< threads for ssh sessions; unset: by cores and hosts (ssh/workers.hpp)
  /// Makes a host's shell; empty: ssh or local as the plan says. Tests put their own here.
  std::function<std::shared_ptr<RemoteShell>(asio::any_io_executor, const HostPlan&)> make_shell;
};

/// The rendezvous port of a plan that is `per_machine`, so that it is known whether this machine leads; empty when
/// another program has it. Errors: as those of the rendezvous server.
Result<std::shared_ptr<rendezvous::HeldPort>> hold_port(const LaunchPlan& plan);

/// Runs the job to its end. Takes SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT and the plan's
/// forward_signals while it runs. Blocks; makes its own io_context.
/// An `Error` only when the job could not be tried (log directory, agent program); all else is in `JobResult`.
Result<JobResult> run_job(const LaunchPlan& plan, const LaunchOptions& options);

}  // namespace llmlaunch::launcher
