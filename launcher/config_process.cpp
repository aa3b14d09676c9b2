// How ranks run, as people write it below `llmlaunch:`. Grammars of single values are in process_settings.cpp.
#include "launcher/config_process.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "launcher/agent/limit_names.hpp"
#include "launcher/config_schema.hpp"
#include "launcher/env_template.hpp"

namespace llmlaunch::launcher {
namespace {

void read_limits(MapReader& map, ProcessSettings& process) {
  const YamlNode* section = map.find("limits");
  if (!section) return;
  MapReader limits(map.check(), *section, map.path_of("limits"), keys_of("llmlaunch.limits"));
  for (const auto& limit : agent::kLimitNames) {
    const auto text = limits.text(limit.name);
    if (!text) continue;
    const auto value = parse_limit(*text, limit.bytes);
    if (value)
      process.limits.push_back({std::string(limit.name), *value});
    else
      limits.refuse(limit.name, *limits.find(limit.name),
                    limit.bytes ? "a number of bytes, one such as 64M, or unlimited" : "a number, or unlimited");
  }
}

void read_signals(MapReader& map, ProcessSettings& process) {
  for (const std::string& name : map.texts("forward_signals")) {
    const auto signal = parse_forwarded_signal(name);
    if (signal)
      process.forward_signals.push_back(*signal);
    else
      map.check().fail(map.find("forward_signals")->mark,
                       fmt::format("{}: {}", map.path_of("forward_signals"), signal.error().what), signal.error().hint);
  }
}

/// A number, or the UUID of a GPU or of a MIG device, whole or its beginning.
bool is_gpu(std::string_view id) {
  const auto digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  if (!id.empty() && std::all_of(id.begin(), id.end(), digit)) return true;
  return (id.starts_with("GPU-") || id.starts_with("MIG-")) && id.size() > 4 &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '/'; });
}

}  // namespace

void read_process_settings(MapReader& map, Config& config) {
  ProcessSettings& process = config.process;
  read_limits(map, process);
  if (const auto text = map.text("umask")) {
    process.umask = parse_umask(*text);
    if (!process.umask) map.refuse("umask", *map.find("umask"), "octal, such as 022 or 027");
  }
  if (const auto text = map.text("cpu_bind")) {
    process.cpu_bind = parse_cpu_bind(*text);
    if (!process.cpu_bind) map.refuse("cpu_bind", *map.find("cpu_bind"), kCpuBindWords);
  }
  if (const auto text = map.text("stdin")) {
    const auto to = parse_stdin(*text);
    if (!to) map.refuse("stdin", *map.find("stdin"), kStdinWords);
    process.stdin_to = to.value_or(StdinTo::none);
  }
  read_signals(map, process);
  process.setup = read_setup(map);
  config.rank_env = read_rank_env(map);
}

void read_forward_env(MapReader& map, Config& config) {
  config.forward_env = map.texts("forward_env");
  const YamlNode* node = map.find("forward_env");
  for (const auto& pattern : config.forward_env) {
    const auto equals = pattern.find('=');
    if (equals != pattern.npos) {
      // What stands behind '=' may be a secret: it is not repeated.
      map.check().fail(node->mark,
                       fmt::format("{} takes names and patterns; '{}' has a value", map.path_of("forward_env"),
                                   pattern.substr(0, equals)),
                       "values belong to llmlaunch.env");
    }
    if (pattern == "!")
      map.check().fail(node->mark, fmt::format("{} has a '!' without a name", map.path_of("forward_env")));
  }
  const auto denies = [](const std::string& pattern) { return pattern.starts_with('!'); };
  if (node && std::all_of(config.forward_env.begin(), config.forward_env.end(), denies) &&
      !config.forward_env.empty()) {
    map.check().fail(node->mark, fmt::format("{} only takes away, and forwards nothing", map.path_of("forward_env")),
                     "what begins with '!' is taken from what the other patterns pick, for example ['*', '!HF_TOKEN']");
  }
}

EnvList read_rank_env(MapReader& map) {
  EnvList list = map.env("rank_env");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto& [name, value] = list[i];
    const auto checked = check_template(value, names_secret(name));
    if (checked) continue;
    map.check().fail(map.find("rank_env")->items[2 * i + 1].mark,
                     fmt::format("{}.{}: {}", map.path_of("rank_env"), name, checked.error().what),
                     checked.error().hint);
  }
  return list;
}

std::vector<std::string> read_setup(MapReader& map) {
  auto lines = map.texts("setup");
  for (const std::string& line : lines) {
    if (line.size() <= agent::kMaxSetupLineBytes) continue;
    map.check().fail(map.find("setup")->mark,
                     fmt::format("{} has a line of {} bytes; at most {} are possible", map.path_of("setup"),
                                 line.size(), agent::kMaxSetupLineBytes));
  }
  if (lines.size() > agent::kMaxSetupLines / 2) {  // a host's own lines come to those for all
    map.check().fail(map.find("setup")->mark,
                     fmt::format("{} has {} lines; at most {} are possible", map.path_of("setup"), lines.size(),
                                 agent::kMaxSetupLines / 2));
  }
  return lines;
}

std::optional<std::string> read_gpu_ids(MapReader& map) {
  const YamlNode* value = map.find("gpu_ids");
  if (!value) return std::nullopt;
  const auto ids = map.texts("gpu_ids");
  std::string joined = fmt::format("{}", fmt::join(ids, ","));
  joined.erase(std::remove(joined.begin(), joined.end(), ' '), joined.end());
  bool good = joined == "all";
  for (std::size_t start = 0; !good && start <= joined.size();) {
    const std::size_t end = std::min(joined.find(',', start), joined.size());
    if (!is_gpu(std::string_view(joined).substr(start, end - start))) break;
    good = end == joined.size();
    start = end + 1;
  }
  if (good) return joined;
  map.refuse("gpu_ids", *value, "'all' or a list like 0,1,2");
  return std::nullopt;
}

}  // namespace llmlaunch::launcher
