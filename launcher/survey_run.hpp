/// \file
/// Asks hosts for their facts: a job of StartPolicy::each_host whose command is the survey's script.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/host_keys.hpp"
#include "launcher/launch.hpp"
#include "launcher/survey_report.hpp"

namespace llmlaunch::launcher {

/// nvidia-smi takes seconds where nothing keeps the driver loaded.
inline constexpr std::chrono::milliseconds kSurveyTime{40'000};

/// The hosts in the plan's order. `plan` has the survey's command. `launch.gather` is not used. Hosts that fail are in
/// the result; an `Error` only when nobody could be asked, or when a signal ended it (rendezvous/base/signal_code.hpp).
Result<std::vector<HostSurvey>> run_survey(LaunchPlan plan, LaunchOptions launch, const std::string& temporary);

/// The failure of a job that a signal ended, with a code that says which.
std::optional<Error> ended_by_signal(const JobResult& result);

/// One host's part of a result for another process of ours, and back. Errors: `Errc::protocol`.
std::string to_wire(const std::vector<HostSurvey>& hosts);
Result<std::vector<HostSurvey>> from_wire(const std::string& text);

}  // namespace llmlaunch::launcher
