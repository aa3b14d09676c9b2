/// \file
/// The directories below log_dir: one is made for each run, and `llmlaunch.logs.keep_runs` removes old ones when a run
/// begins. Used by run_job.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/log_settings.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

struct RunDirectory {
  std::string path;  ///< absolute
  UniqueFd held;     ///< tells other runs that this one goes on, while it is open; empty on a file system without locks
};
/// Makes `<log_dir>/<job_id>`, and log_dir where it is missing. It is held before anything is in it, so that at no time
/// it looks like that of a run that died. An existing run directory is never written into: Errc::io.
Result<RunDirectory> make_run_directory(const std::string& log_dir, const std::string& job_id);

/// What the text of a job.json says of the run `job_id`: nothing, when it is no record of that run. Any text may come.
enum class RecordedRun { none, begun, ended };
RecordedRun recorded_run(std::string_view text, std::string_view job_id);

/// The text of a run directory's job.json; nothing when there is none, or what is there is none of ours by its kind or
/// its size.
std::optional<std::string> run_record(const std::string& directory);
/// Whether the llmlaunch of this run lives. Without locks on the file system it always seems to.
bool run_is_held(const std::string& directory);

/// Removes what `kept` does not keep below `log_dir`; the run `current` is the newest of those that are counted. Only
/// directories that have a job.json with their own name in it, and whose job does not run: it has ended, or nobody
/// holds the directory. Links are not followed. What cannot be removed is warned of; returns how many are gone.
std::size_t prune_runs(const std::string& log_dir, const std::string& current, const RunsKept& kept,
                       std::chrono::system_clock::time_point now);

}  // namespace llmlaunch::launcher
