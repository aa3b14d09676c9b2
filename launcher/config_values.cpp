// The tree for people: every value that was given, on one line, with its place and without its secrets.
#include <fmt/format.h>

#include "launcher/config_layers.hpp"
#include "launcher/config_schema.hpp"
#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::launcher {
namespace {

// Enough to recognise a value; hosts and environment values may be long.
constexpr std::size_t kShownValueBytes = 160;

std::string shortened(std::string text) {
  if (text.size() <= kShownValueBytes) return text;
  return fmt::format("{}… ({} bytes)", cut_text(text, kShownValueBytes), text.size());
}

/// `name` is the key, the variable or the like of which this is the value; empty when it is a key of the table.
std::string shown(const YamlNode& node, std::string_view name) {
  if (node.secret || (!name.empty() && names_secret(name))) return std::string(kMask);
  std::string text;
  switch (node.kind) {
    case YamlNode::Kind::null: return "null";
    case YamlNode::Kind::scalar: {
      text = without_secrets({node.text}).front();
      const bool plain = !text.empty() && text.front() != ' ' && text.back() != ' ';
      return plain ? text : "'" + text + "'";
    }
    case YamlNode::Kind::sequence:
      for (const YamlNode& item : node.items) {
        text += (text.empty() ? "" : ", ") + shown(item, name);
        if (text.size() > kShownValueBytes) break;  // of 65536 hosts the first are enough
      }
      return "[" + text + "]";
    case YamlNode::Kind::mapping:
      for (std::size_t i = 0; i + 1 < node.items.size() && text.size() <= kShownValueBytes; i += 2) {
        const std::string& key = node.items[i].text;
        const bool own_key = key.starts_with("identity_file");  // the name of a file
        text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", key, shown(node.items[i + 1], own_key ? "" : key));
      }
      return "{" + text + "}";
  }
  return text;
}

const YamlNode* node_at(const YamlNode& root, std::string_view path) {
  const YamlNode* node = &root;
  while (node) {
    const auto dot = path.find('.');
    node = value_of(*node, path.substr(0, dot));
    if (dot == path.npos) return node;
    path.remove_prefix(dot + 1);
  }
  return nullptr;
}

}  // namespace

std::vector<ConfigValue> values_of(const ConfigLayers& layers) {
  std::vector<ConfigValue> values;
  const ConfigSource& file = *layers.sources.front();
  const auto add = [&](std::string path, const YamlNode& node, std::string_view name) {
    values.push_back({std::move(path), shortened(shown(node, name)), file.place(node.mark)});
  };
  for (const Setting& setting : settings()) {
    const bool is_include = setting.path == "llmlaunch.include" && layers.include;
    const YamlNode* node = is_include ? &*layers.include : node_at(layers.root, setting.path);
    if (!node || setting.kind == SettingKind::section || node->kind == YamlNode::Kind::null) continue;
    const bool named = setting.kind == SettingKind::variables || setting.kind == SettingKind::groups ||
                       setting.kind == SettingKind::mapping;
    if (!named || !is_mapping(node)) {
      add(std::string(setting.path), *node, {});
      continue;
    }
    for (std::size_t i = 0; i + 1 < node->items.size(); i += 2) {
      const std::string& key = node->items[i].text;
      add(fmt::format("{}.{}", setting.path, key), node->items[i + 1], key);
    }
  }
  return values;
}

}  // namespace llmlaunch::launcher
