// Values that stand in no file: --set KEY=VALUE and the variables LLMLAUNCH_…. Which keys there are, the table says.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "launcher/config_layers.hpp"
#include "launcher/config_schema.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kPrefix = "LLMLAUNCH_";
using Keys = std::vector<std::string>;

Keys keys_in(std::string_view path) {
  Keys keys;
  for (;;) {
    const auto dot = path.find('.');
    keys.emplace_back(path.substr(0, dot));
    if (dot == path.npos) return keys;
    path.remove_prefix(dot + 1);
  }
}

/// "llmlaunch.ssh.port" → its keys; "llmlaunch.env.A.B" → llmlaunch, env, A.B. Nothing for a path that is none.
Keys keys_along(std::string_view path) {
  if (path.find('[') != path.npos) return {};
  if (find_setting(path)) return keys_in(path);
  for (auto dot = path.rfind('.'); dot != path.npos && dot > 0; dot = path.rfind('.', dot - 1)) {
    const Setting* above = find_setting(path.substr(0, dot));
    if (!above) continue;
    const bool free_names = above->kind == SettingKind::variables || above->kind == SettingKind::groups;
    if ((!free_names && above->kind != SettingKind::mapping) || dot + 1 == path.size()) return {};
    Keys keys = keys_in(path.substr(0, dot));
    for (auto& key : free_names ? Keys{std::string(path.substr(dot + 1))} : keys_in(path.substr(dot + 1)))
      keys.push_back(std::move(key));
    return keys;
  }
  return {};
}

Error unknown_key(const std::string& path) {
  const std::string shown = path.substr(0, 80);
  const auto fail = [&](std::string what, std::string hint) {
    return make_error(Errc::invalid_config, std::move(what), "--set " + shown, std::move(hint));
  };
  if (const auto bracket = path.find('['); bracket != path.npos) {
    const std::string list = path.substr(0, std::min<std::size_t>(bracket, 60));
    return fail("a list is set as a whole, not item by item", fmt::format("--set '{}=[…, …]'", list));
  }
  std::vector<std::string_view> known;
  for (const Setting& setting : settings())
    if (setting.path.find('[') == setting.path.npos) known.push_back(setting.path);
  const std::string below = "llmlaunch." + path;
  const bool lacks_section = std::find(known.begin(), known.end(), below) != known.end();
  const std::string_view meant = lacks_section ? std::string_view(below) : nearest(path, known);
  return fail(fmt::format("unknown key '{}'", shown),
              meant.empty() ? "README lists the keys; those below llmlaunch: begin with 'llmlaunch.'"
                            : fmt::format("did you mean '{}'?", meant));
}

/// The mapping that holds the last key; those above it are made where they are not there.
Result<YamlNode*> section_at(ConfigLayers& layers, const Keys& keys) {
  const ConfigSource& file = *layers.sources.front();
  YamlNode* section = &layers.root;
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) {
    YamlNode* below = value_of(*section, keys[i]);
    if (!below || below->kind == YamlNode::Kind::null) {
      YamlNode made;
      made.kind = YamlNode::Kind::mapping;
      made.mark.source = &file;  // of the file, so that what it includes still counts beside the value
      const ConfigMark mark = made.mark;
      set_value(*section, keys[i], mark, std::move(made));
      below = value_of(*section, keys[i]);
    }
    if (!is_mapping(below)) return file.error_at(below->mark, fmt::format("{} must be a mapping", keys[i]));
    section = below;
  }
  return section;
}

/// Another spelling of the same key would count beside the value.
void erase_other_spellings(YamlNode& section, std::string_view path) {
  const Setting* setting = find_setting(path);
  if (!setting) return;
  const auto meant = setting->instead.empty() ? key_of(*setting) : setting->instead;
  for (const Setting& other : settings()) {
    if (section_of(other) != section_of(*setting)) continue;
    if (key_of(other) == meant || other.instead == meant) erase_key(section, key_of(other));
  }
}

Result<void> assign(ConfigLayers& layers, std::string_view path, const Keys& keys, const ConfigSource& source,
                    YamlNode value) {
  const auto section = section_at(layers, keys);
  if (!section) return section.error();
  erase_other_spellings(**section, path);
  set_value(**section, keys.back(), source.mark_at(1, 0), std::move(value));
  return ok;
}

/// One word, or a list or mapping written as YAML? The text of one word is taken as it is: "[{rank}] ".
bool is_one_word(SettingKind kind) {
  switch (kind) {
    case SettingKind::text:
    case SettingKind::boolean:
    case SettingKind::integer:
    case SettingKind::duration:
    case SettingKind::size:
    case SettingKind::limit:
    case SettingKind::octal:
    case SettingKind::choice: return true;
    default: return false;
  }
}

/// "llmlaunch.ssh.port" → "LLMLAUNCH_SSH_PORT"; empty for what no variable stands for.
std::string variable_of(const Setting& setting) {
  if (setting.path.find('[') != setting.path.npos || setting.kind == SettingKind::section) return {};
  std::string name(kPrefix);
  for (const char c : setting.path.substr(setting.path.starts_with("llmlaunch.") ? 10 : 0))
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return set_by_llmlaunch(name) ? std::string() : name;
}

}  // namespace

Result<void> apply_settings(ConfigLayers& layers, const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) {
    const auto equals = setting.find('=');
    const std::string path = setting.substr(0, equals);
    const Keys keys = keys_along(path);
    if (keys.empty()) return unknown_key(path);
    if (equals == setting.npos)
      return make_error(Errc::invalid_config, "it has no value", "--set " + path, fmt::format("--set {}=VALUE", path));
    const std::string text = setting.substr(equals + 1);
    layers.sources.push_back(ConfigSource::of_value(ConfigOrigin::set, "--set " + path, text, path + "="));
    const ConfigSource& source = *layers.sources.back();
    auto value = parse_yaml_value(source, text);
    if (!value) return value.error();
    if (value->mark.line == 0) value->mark = source.mark_at(1, 0);  // an empty text
    if (auto done = assign(layers, path, keys, source, std::move(*value)); !done) return done;
  }
  return ok;
}

Result<void> apply_overrides(ConfigLayers& layers, const std::vector<Override>& overrides) {
  for (const Override& one : overrides) {
    layers.sources.push_back(ConfigSource::of_value(ConfigOrigin::option, one.option, one.value, one.option + " "));
    const ConfigSource& source = *layers.sources.back();
    YamlNode value;
    value.kind = YamlNode::Kind::scalar;
    value.mark = source.mark_at(1, 0);
    value.text = one.value;
    if (auto done = assign(layers, one.key, keys_in(one.key), source, std::move(value)); !done) return done;
  }
  return ok;
}

Result<void> apply_variables(ConfigLayers& layers, const EnvList& environment) {
  for (const Setting& setting : settings()) {
    const std::string name = variable_of(setting);
    if (name.empty()) continue;
    const auto given =
        std::find_if(environment.begin(), environment.end(), [&](const auto& own) { return own.first == name; });
    if (given == environment.end() || given->second.empty()) continue;
    layers.sources.push_back(ConfigSource::of_value(ConfigOrigin::variable, name, given->second, name + "="));
    const ConfigSource& source = *layers.sources.back();
    YamlNode value;
    if (is_one_word(setting.kind)) {
      value.kind = YamlNode::Kind::scalar;
      value.mark = source.mark_at(1, 0);
      value.text = given->second;
    } else {
      auto parsed = parse_yaml_value(source, given->second);
      if (!parsed) return parsed.error();
      value = std::move(*parsed);
    }
    if (auto done = assign(layers, setting.path, keys_in(setting.path), source, std::move(value)); !done) return done;
  }
  return ok;
}

std::vector<std::string> misspelt_variables(const EnvList& environment) {
  std::vector<std::string> known;
  for (const Setting& setting : settings())
    if (auto name = variable_of(setting); !name.empty()) known.push_back(name.substr(kPrefix.size()));
  std::vector<std::string> warnings;
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kPrefix) || set_by_llmlaunch(name)) continue;
    const std::string_view own = std::string_view(name).substr(kPrefix.size());
    if (own == "LIBEXEC" || own.starts_with("TEST_") || std::find(known.begin(), known.end(), own) != known.end())
      continue;
    const auto meant = nearest(own, known);
    if (!meant.empty())
      warnings.push_back(fmt::format("the variable {} is no setting; did you mean {}{}?", name, kPrefix, meant));
  }
  return warnings;
}

}  // namespace llmlaunch::launcher
