/// \file
/// The mapping `llmlaunch:` of a configuration file: what accelerate has no words for. Called by config.cpp alone.
#pragma once

#include "launcher/config.hpp"
#include "launcher/config_reader.hpp"

namespace llmlaunch::launcher {

/// Reads the section into `config`; what is wrong goes to `check`.
void read_llmlaunch_section(ConfigCheck& check, const YamlNode& section, Config& config);

/// `llmlaunch.logs`, in a file of its own (config_logs.cpp).
void read_logs(ConfigCheck& check, const YamlNode& section, Config& config);

}  // namespace llmlaunch::launcher
