// The table of settings against what was given. The values of the file and of --set are texts already (values_of).
#include "cli/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "launcher/config_schema.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::ConfigValue;
using Values = std::vector<ConfigValue>;

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g}s", std::chrono::duration<double>(time).count());
}

void add_text(Values& values, const char* path, const char* option, const std::optional<std::string>& text) {
  if (text) values.push_back({path, *text, option});
}

void add_env(Values& values, const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    const auto equals = entry.find('=');
    const std::string name = entry.substr(0, equals);
    const std::string text = equals == entry.npos ? "(as it is set here)" : entry.substr(equals + 1);
    const bool secret = equals != entry.npos && launcher::names_secret(name);
    values.push_back({"llmlaunch.env." + name, secret ? std::string(launcher::kMask) : text, "--env"});
  }
}

std::string joined(const std::vector<launcher::RankRange>& ranks) {
  std::string text;
  for (const auto& range : ranks)
    text += fmt::format(
        "{}{}", text.empty() ? "" : ",",
        range.first == range.second ? std::to_string(range.first) : fmt::format("{}-{}", range.first, range.second));
  return text;
}

/// Keys of a run that exec drops (exec_overlay.cpp).
bool is_about_ranks(std::string_view path) {
  constexpr std::array<std::string_view, 8> kDropped{"llmlaunch.timeouts.run",
                                                     "llmlaunch.stdin",
                                                     "llmlaunch.cpu_bind",
                                                     "llmlaunch.logs.ranks",
                                                     "llmlaunch.timeouts.rendezvous",
                                                     "llmlaunch.rendezvous.via",
                                                     "llmlaunch.rendezvous.use_agent_store",
                                                     "llmlaunch.rendezvous.allow_from"};
  return !path.starts_with("llmlaunch.") || std::find(kDropped.begin(), kDropped.end(), path) != kDropped.end();
}

std::string line_of(std::string_view path, std::string_view text, std::string_view where) {
  std::string shown(text);  // one value is one line, whatever it holds
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return fmt::format("{} = {}  ({})\n", path, shown, where);
}

}  // namespace

Values typed_values(const RunOptions& options) {
  Values values;
  const char* hosts = "llmlaunch.hosts";
  add_text(values, hosts, "--hosts", options.hosts);
  if (options.hostfile)
    values.push_back({hosts, "(those of " + *options.hostfile + ")", "--hostfile"});
  else if (options.from)
    values.push_back({hosts, "(those of the allocation)", "--from " + *options.from});
  add_text(values, "llmlaunch.log_dir", "--log-dir", options.log_dir);
  add_text(values, "llmlaunch.workdir", "--workdir", options.workdir);
  if (options.timeout) values.push_back({"llmlaunch.timeouts.run", seconds(*options.timeout), "--timeout"});
  constexpr std::array kStdin{"none", "0", "all"};
  constexpr std::array kBind{"none", "core", "numa", "gpu"};
  constexpr std::array kWhen{"auto", "always", "never"};
  constexpr std::array kBy{"host", "rank"};
  if (options.stdin_to)
    values.push_back({"llmlaunch.stdin", kStdin.at(static_cast<std::size_t>(*options.stdin_to)), "--stdin"});
  if (options.cpu_bind)
    values.push_back({"llmlaunch.cpu_bind", kBind.at(static_cast<std::size_t>(*options.cpu_bind)), "--cpu-bind"});
  add_text(values, "llmlaunch.logs.prefix", "--prefix", options.prefix);
  if (options.color)
    values.push_back({"llmlaunch.logs.color", kWhen.at(static_cast<std::size_t>(*options.color)), "--color"});
  if (options.color_by)
    values.push_back({"llmlaunch.logs.color_by", kBy.at(static_cast<std::size_t>(*options.color_by)), "--color-by"});
  if (!options.ranks.empty()) values.push_back({"llmlaunch.logs.ranks", joined(options.ranks), "--ranks"});
  if (options.fold_lines) values.push_back({"llmlaunch.logs.fold_lines", "true", "--fold-lines"});
  if (options.updates_per_second)
    values.push_back(
        {"llmlaunch.logs.updates_per_second", std::to_string(*options.updates_per_second), "--updates-per-second"});
  add_env(values, options.env);
  return values;
}

Values typed_values(const ExecOptions& options) {
  Values values;
  std::string hosts;
  for (const auto& words : {options.hosts.include, options.hosts.hostfiles})
    for (const std::string& word : words) hosts += (hosts.empty() ? "" : ",") + word;
  if (!hosts.empty())
    values.push_back({"llmlaunch.hosts", hosts, options.hosts.include.empty() ? "--hostfile" : "--hosts"});
  add_text(values, "llmlaunch.ssh.user", "--user", options.user);
  add_text(values, "llmlaunch.workdir", "--workdir", options.workdir);
  if (options.connect_timeout)
    values.push_back({"llmlaunch.timeouts.connect", seconds(*options.connect_timeout), "--connect-timeout"});
  values.push_back({"llmlaunch.log_dir", options.log_dir.value_or("(none)"), options.log_dir ? "--log-dir" : "exec"});
  add_env(values, options.env);
  return values;
}

std::string explained(const launcher::Config& config, const Values& typed, bool for_ranks) {
  std::map<std::string, const ConfigValue*, std::less<>> given;
  for (const Values* values : {&config.values, &typed})
    for (const ConfigValue& value : *values) given.insert_or_assign(value.path, &value);
  // The options about hosts and ranks change these two together (overlay.cpp).
  ConfigValue processes{"num_processes", "", ""};
  if (config.num_processes) {
    const auto place = config.places.find("num_processes");
    processes.text = std::to_string(*config.num_processes);
    processes.where = place == config.places.end() ? "" : place->second.text;
    const bool typed_count = place != config.places.end() && place->second.origin == launcher::ConfigOrigin::option;
    const auto own = given.find("num_processes");
    if (typed_count || own == given.end() || own->second->text != processes.text)
      given.insert_or_assign("num_processes", &processes);
  } else {
    given.erase("num_processes");
  }
  if (!config.num_machines) given.erase("num_machines");
  std::string text;
  for (const launcher::Setting& setting : launcher::settings()) {
    const bool item = setting.path.find('[') != setting.path.npos;
    if (setting.kind == launcher::SettingKind::section || item || (!for_ranks && is_about_ranks(setting.path)))
      continue;
    const std::string below = std::string(setting.path) + ".";
    bool found = false;
    for (auto at = given.lower_bound(setting.path);
         at != given.end() && (at->first == setting.path || at->first.starts_with(std::string(setting.path))); ++at) {
      if (at->first != setting.path && !at->first.starts_with(below)) continue;
      found = true;
      text += line_of(at->first, launcher::without_values(at->second->text, config.secrets), at->second->where);
    }
    if (!found && setting.instead.empty())
      text += line_of(setting.path, setting.default_words.empty() ? "-" : setting.default_words, "default");
  }
  return text;
}

}  // namespace llmlaunch::cli
