/// \file
/// job.json, the record of a run: what was asked for, on which hosts, and how every rank ended. Environment variables
/// are listed by name alone: values may be secrets.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "launcher/launch.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

struct JobTimes {
  std::chrono::system_clock::time_point started;
  std::optional<std::chrono::system_clock::time_point> ended;
};

/// The whole file's text. `result` is missing while the job runs: exit_status and the ends are null then.
std::string job_record(const LaunchPlan& plan, const JobTimes& times, const JobResult* result);

}  // namespace llmlaunch::launcher
