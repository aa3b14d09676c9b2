// The text of an option → its value, with the same words for a wrong one in every command.
#include "cli/option_values.hpp"

#include <algorithm>

#include "launcher/config.hpp"
#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {

Result<std::optional<std::uint32_t>> count_value(const CLI::App& command, const char* name, const std::string& text,
                                                 std::uint32_t most) {
  if (command.count(name) == 0) return std::optional<std::uint32_t>{};
  const auto value = text.starts_with('0') ? std::nullopt : parse_whole<std::uint32_t>(text);
  if (value && *value <= most) return value;
  return usage(fmt::format("{} must be a number from 1 to {}, not '{}'", name, most, text), lists_options(command));
}

Result<std::optional<std::chrono::milliseconds>> time_value(const CLI::App& command, const char* name,
                                                            const std::string& text) {
  if (command.count(name) == 0) return std::optional<std::chrono::milliseconds>{};
  const auto time = launcher::parse_duration(text);
  if (time && time->count() > 0) return time;
  return usage(fmt::format("{} must be a time such as 90, 30s, 5m or 2h, not '{}'", name, text),
               lists_options(command));
}

Result<void> check_env_entries(const std::vector<std::string>& entries, const std::string& hint) {
  for (const auto& entry : entries) {
    const std::string name = entry.substr(0, entry.find('='));
    if (name.empty()) return usage("--env needs NAME=VALUE or NAME", hint);
    if (launcher::set_by_llmlaunch(name))
      return usage(fmt::format("--env {}: llmlaunch gives every rank its own {}", name, name), "");
  }
  return ok;
}

void add_setting_option(CLI::App& app, std::vector<std::string>& settings) {
  add_value(app, "--set", settings, "KEY=VALUE", "A setting over the configuration: llmlaunch.ssh.port=2222");
}

Result<void> check_settings(const std::vector<std::string>& settings, const std::string& hint) {
  for (const std::string& setting : settings) {
    const auto equals = setting.find('=');
    if (equals == 0) return usage("--set must be KEY=VALUE, and nothing stands before its '='", hint);
    if (equals == setting.npos)
      return usage(fmt::format("--set must be KEY=VALUE, not '{}'", cut_text(setting, 60)), hint);
  }
  return ok;
}

}  // namespace llmlaunch::cli
