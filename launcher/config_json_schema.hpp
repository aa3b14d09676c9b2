/// \file
/// The table of keys as JSON Schema (draft 2020-12), for editors that check and complete a file while it is written.
#pragma once

#include <string>

namespace llmlaunch::launcher {

/// The whole document, with a newline at the end. It accepts what parse_config accepts as far as one value alone tells,
/// in what readers of YAML 1.1 and 1.2 make of it (a plain `no` is a text to one and false to the other).
std::string config_json_schema();

}  // namespace llmlaunch::launcher
