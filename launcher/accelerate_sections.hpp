/// \file
/// accelerate's sections → `Config::accelerate`, checked against accelerate_settings.hpp. Private to config.cpp.
#pragma once

#include "launcher/config.hpp"
#include "launcher/config_reader.hpp"

namespace llmlaunch::launcher {

/// After distributed_type and mixed_precision are read: a section that has no effect with them is noted.
void read_accelerate_sections(MapReader& top, Config& config);

}  // namespace llmlaunch::launcher
