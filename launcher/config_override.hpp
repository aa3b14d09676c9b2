/// \file
/// Keys of the file that the command line gives: put into the parsed tree, so that they are read and checked like the
/// file's own, and messages name the option. Private to config.cpp.
#pragma once

#include <string>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/config_yaml.hpp"

namespace llmlaunch::launcher {

/// What stands for each of them in messages, in their order.
std::vector<std::string> options_of(const std::vector<Override>& overrides);

/// "section.key" goes into that section, which is made when the file has none; a later one wins. Errors:
/// `Errc::invalid_config` when the file's section is no mapping.
Result<void> apply_overrides(YamlNode& root, const ConfigSource& source, const std::vector<Override>& overrides);

}  // namespace llmlaunch::launcher
