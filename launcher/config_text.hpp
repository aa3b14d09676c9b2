/// \file
/// `Config` → YAML, as people would write it: accelerate's keys first, ours below `llmlaunch:`, nothing that is a
/// default but for what tells the shape of the job. `parse_config` reads it back to the same. Pure. Used by the wizard.
#pragma once

#include <string>
#include <string_view>

#include "launcher/config.hpp"

namespace llmlaunch::launcher {

/// A text as a YAML scalar: plain where it stays a text, else in double quotes. The one place that knows what a value
/// of ours must look like in a file.
std::string config_scalar(std::string_view text);

/// The whole file. `comment` stands in front, each line behind "# ".
std::string config_text(const Config& config, const std::string& comment);

/// `llmlaunch:` and what is below it; empty when there is nothing to say.
std::string llmlaunch_section(const Config& config);

}  // namespace llmlaunch::launcher
