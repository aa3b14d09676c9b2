/// \file
/// Run directories of earlier jobs: `llmlaunch.logs.keep_runs` removes old ones when a run begins. Used by run_job.
#pragma once

#include <chrono>
#include <string>

#include "launcher/agent/unique_fd.hpp"
#include "launcher/log_settings.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Says to others that the directory's job runs, for as long as the descriptor is open. Empty where the file system has
/// no locks.
agent::UniqueFd hold_run_directory(const std::string& directory);

/// Removes what `kept` does not keep below `log_dir`; the run `current` is the newest of those that are counted. Only
/// directories that have a job.json with their own name in it, and whose job does not run: it has ended, or nobody
/// holds the directory. Links are not followed. What cannot be removed is warned of; returns how many are gone.
std::size_t prune_runs(const std::string& log_dir, const std::string& current, const RunsKept& kept,
                       std::chrono::system_clock::time_point now);

}  // namespace llmlaunch::launcher
