/// \file
/// How the hosts of an exec ended, as one exit status and as a table for people: hosts that ended alike are one line.
/// Pure; `JobState` calls it for its result.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/launch.hpp"

namespace llmlaunch::launcher {

/// What this host adds to the exit status: 0, its command's own status, 128 + n, kStatusTimedOut, kStatusNoProgram … or
/// kStatusUnavailable.
int status_of_host(const HostEnd& end);

/// The worst of all. In this order: a host that was not reached or was lost (69, or 70), a time limit (124), and then
/// the highest status of the commands.
int exec_status(const std::vector<HostEnd>& hosts);

/// "3 of 64 hosts failed" and a line for each kind of failure, worst first; nothing when all ended with 0.
/// Its code: rank_failed, or the code of the first host that was not reached.
std::optional<Error> exec_failure(const std::vector<HostEnd>& hosts);

/// A line for each host, in their order: how it ended, what it adds to the exit status, how long it took to connect and
/// to run. What did not happen has a dash. Ends with a newline.
///
///     host   end          status  connect s  run s
///     gpu01  exit 0            0       0.21   1.30
///     gpu02  unreachable      69          -      -
std::string exec_table(const std::vector<HostEnd>& hosts);

/// As `exec_failure`, for a job that was stopped as a whole: `why` first, then who had ended, who was stopped, who
/// never began.
Error exec_stopped(const std::vector<HostEnd>& hosts, const Error& why);

}  // namespace llmlaunch::launcher
