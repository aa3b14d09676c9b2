/// \file
/// Which job a person means, and whether it runs: for commands that look into a job from outside. Reads run
/// directories; used by cli/store.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/observer_pass.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// A job whose head lives on this machine and serves its store.
struct RunningJob {
  std::string directory;
  ObserverPass pass;
};

/// What has become of a run directory.
enum class RunState {
  serves,   ///< the head lives, here or on another machine, and has a pass there
  no_pass,  ///< the head lives, and has none: it begins, or ends, or its commands need no rendezvous (exec)
  ended,    ///< its job.json says so
  died,     ///< nobody holds it, and job.json has no end: its head was killed, or the machine fell
  no_run,   ///< no directory of a run
};
RunState run_state(const std::string& directory);

/// The names of this user's jobs below `log_dir` that serve a store, the newest first.
std::vector<std::string> running_jobs(const std::string& log_dir);

/// `name` is a job id below `log_dir`, the path of a run directory, or "latest": the newest job that runs there.
/// `Errc::unreachable` for what is no running job of this machine: with its end, when it has ended; the machine that it
/// runs on; or the jobs that do run. `Errc::refused` as read_observer_pass.
Result<RunningJob> find_running_job(const std::string& log_dir, const std::string& name);

/// Of a job that was looked into: its head is gone and has not said how it ended.
Error died_without_a_word(const RunningJob& job);
/// The error of a connection to the job's store, as what became of the job where that is known.
Error why_closed(const RunningJob& job, Error error);

}  // namespace llmlaunch::launcher
