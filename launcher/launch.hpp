/// \file
/// Carries out a `LaunchPlan`: agents, gang start, rendezvous, logs, stop. Returns when nothing of the job is left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/plan.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// How one rank ended.
struct RankEnd {
  enum class Kind { not_started, exited, signaled, stopped, lost };  ///< stopped: by us, after another's failure
  Rank rank{};
  std::string host;
  std::int64_t pid = 0;
  Kind kind = Kind::not_started;
  int value = 0;                           ///< exit status or signal number
};

struct JobResult {
  int exit_status = 0;                     ///< as cli/exit_status.hpp documents it
  std::optional<Error> failure;            ///< the headline: the first failing rank or host
  std::vector<RankEnd> ranks;
  std::string run_directory;
};

struct LaunchOptions {
  std::string agent_path;                  ///< llmlaunch-agent on the head
  int stdout_fd = 1;                       ///< ranks' stdout lines; a slow reader slows the ranks down
  int stderr_fd = 2;                       ///< ranks' stderr lines
  bool quiet = false;
  /// Makes a host's shell; empty: ssh or local as the plan says. Tests put their own here.
  std::function<std::shared_ptr<RemoteShell>(asio::any_io_executor, const HostPlan&)> make_shell;
};

/// Runs the job to its end. Takes SIGINT, SIGTERM, SIGHUP and SIGQUIT while it runs. Blocks; makes its own io_context.
/// An `Error` only when the job could not be tried (log directory, agent program); all else is in `JobResult`.
Result<JobResult> run_job(const LaunchPlan& plan, const LaunchOptions& options);

}  // namespace llmlaunch::launcher
