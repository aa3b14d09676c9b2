/// \file
/// What an exec leaves to be shown when all is over: the hosts' output, gathered and grouped, or one JSON object. The
/// job itself is `run_job` with a plan of StartPolicy::each_host. Used by cli/exec.cpp.
#pragma once

#include "launcher/gathered_output.hpp"
#include "launcher/launch.hpp"

namespace llmlaunch::launcher {

/// stdout of the hosts to `out` and stderr to `err`: hosts whose output is the same come once, under their folded
/// names, in the order of the first of each group. A host that printed nothing is not there.
///
///     ----------------
///     gpu[01-06,08-64] (63)
///     ----------------
///     GPU 0: NVIDIA H100 …
Result<void> write_groups(const std::vector<HostEnd>& hosts, const GatheredOutput& gathered, const TextSink& out,
                          const TextSink& err);

/// A line for each host: how it ended, what it adds to the exit status, how long it took. See `exec_table`.
Result<void> write_table(const std::vector<HostEnd>& hosts, const TextSink& to);

/// One object with a newline at its end: job_id, argv (without secrets), exit_status, failure, and of each host: host,
/// end, status, signal, reason, connect_s, run_s, stdout, stderr. Output that is no UTF-8 is stdout_base64 or
/// stderr_base64 instead.
Result<void> write_json(const LaunchPlan& plan, const JobResult& result, const GatheredOutput& gathered,
                        const TextSink& out);

}  // namespace llmlaunch::launcher
