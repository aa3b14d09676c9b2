/// \file
/// Configurations with settings, variables and included files, all from memory.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "launcher/config.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::testing {

/// What `include:` finds, by path.
using Files = std::map<std::string, std::string>;

inline Result<launcher::Config> read_layers(const std::string& text, const launcher::ConfigInput& input, Files files) {
  return launcher::parse_config(text, input, [&files](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found != files.end()) return found->second;
    return make_error(Errc::not_found, "No such file or directory", path);
  });
}

inline launcher::Config good(const Result<launcher::Config>& config) {
  INFO((config ? "" : to_string(config.error())));
  REQUIRE(config.has_value());
  return *config;
}

inline std::string message(const Result<launcher::Config>& config) {
  if (config) return "no error";
  CHECK(config.error().code == Errc::invalid_config);
  return to_string(config.error());
}

}  // namespace llmlaunch::testing
