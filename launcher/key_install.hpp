/// \file
/// Puts a public key into authorized_keys on hosts that take a password, as ssh-copy-id does it: one session for each.
#pragma once

#include <string>
#include <vector>

#include "launcher/launch.hpp"
#include "launcher/survey_report.hpp"

namespace llmlaunch::launcher {

/// The public half of a key of this user.
struct OwnKey {
  std::string name;  ///< for people: its file, or that of ssh-agent
  std::string line;  ///< of authorized_keys, without the newline; empty: there is no key
};
/// For each host of the plan: the key that a sign-in there would try first. Errors: those of the ssh configuration.
Result<std::vector<OwnKey>> own_keys(const LaunchPlan& plan);

/// argv of a command that adds one line to ~/.ssh/authorized_keys unless it is there. A public key is no secret.
std::vector<std::string> key_install_command(const std::string& public_key);

/// Runs it on the plan's hosts. Of each host: `failure`, or empty facts. Errors as those of `run_survey`.
Result<std::vector<HostSurvey>> install_key(LaunchPlan plan, LaunchOptions launch, const std::string& public_key,
                                            const std::string& temporary);

}  // namespace llmlaunch::launcher
