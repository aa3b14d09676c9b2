/// \file
/// What the option parsers of all commands share: how an option is declared, and how its text becomes a value. Private
/// to cli/*options.cpp.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

inline Error usage(std::string what, std::string hint = "llmlaunch --help shows how it is called") {
  return make_error(Errc::usage, std::move(what), {}, std::move(hint));
}

/// `command` is "llmlaunch run", or "llmlaunch".
inline std::string lists_options(const std::string& command) {
  return command + " --help lists the options";
}
inline std::string lists_options(const CLI::App& command) {
  return lists_options("llmlaunch " + command.get_name());
}

/// One value per use: CLI11 would otherwise take "[a,b]" apart and read on into the next words. A vector may be given
/// several times.
template <class T>
CLI::Option* add_value(CLI::App& app, const char* names, T& target, const char* type, const char* text) {
  return app.add_option(names, target, text)->type_name(type)->allow_extra_args(false);
}

/// Nothing when the option was not given; a decimal number from 1 to `most`, or `Errc::usage`.
Result<std::optional<std::uint32_t>> count_value(const CLI::App& command, const char* name, const std::string& text,
                                                 std::uint32_t most);
/// The same for a time above 0.
Result<std::optional<std::chrono::milliseconds>> time_value(const CLI::App& command, const char* name,
                                                            const std::string& text);
/// `--env` entries: each has a name that is the user's to set.
Result<void> check_env_entries(const std::vector<std::string>& entries, const std::string& hint);

/// `--set`, the same for all commands that read a configuration.
void add_setting_option(CLI::App& app, std::vector<std::string>& settings);
Result<void> check_settings(const std::vector<std::string>& settings, const std::string& hint);
inline constexpr const char* kExplainText = "Print every setting and where it comes from; start nothing";

}  // namespace llmlaunch::cli
