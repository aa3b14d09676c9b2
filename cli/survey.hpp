/// \file
/// A survey from the cli's side: which hosts, with whose settings. Used by env and by config.
#pragma once

#include <string>
#include <vector>

#include "cli/options.hpp"
#include "launcher/config.hpp"
#include "launcher/key_install.hpp"
#include "launcher/survey_run.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// What a survey may ask and say.
struct SurveyWays {
  Verbosity verbosity = Verbosity::normal;
  bool no_progress = false;
  bool ask_pass = false;
  launcher::HostKeyDesk* host_keys = nullptr;
};

/// The hosts of `config` as they stand there, all at once. Without hosts: this machine.
Result<std::vector<launcher::HostSurvey>> survey_hosts(const launcher::Config& config, const SurveyWays& ways);

/// The key that the first of these hosts with one would be offered first; hosts with another one are taken out of
/// `config`. An empty line: there is no key.
Result<launcher::OwnKey> own_key_for(launcher::Config& config);

/// Adds a public key to authorized_keys on these hosts; a password for them is asked for at the terminal.
Result<std::vector<launcher::HostSurvey>> install_key_on(const launcher::Config& config, const std::string& public_key,
                                                         launcher::HostKeyDesk* host_keys);

/// $TMPDIR, or /tmp.
std::string temporary_directory();

}  // namespace llmlaunch::cli
