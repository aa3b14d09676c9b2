/// \file
/// Configurations from text, as tests of config and plan write them.
#pragma once

#include <string>
#include <utility>

#include "launcher/config.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::testing {

/// What the text means; fails the test with the message when it means nothing.
inline launcher::Config parsed(const std::string& text) {
  auto config = launcher::parse_config(text, "cfg.yaml");
  INFO(text << (config ? "" : to_string(config.error())));
  REQUIRE(config.has_value());
  return std::move(*config);
}

/// The whole message that the text is refused with, or "no error".
inline std::string message(const std::string& text) {
  const auto config = launcher::parse_config(text, "cfg.yaml");
  if (config) return "no error";
  CHECK(config.error().code == Errc::invalid_config);
  return to_string(config.error());
}

}  // namespace llmlaunch::testing
