// The order of the layers, and the few things that all of them do with the tree.
#include "launcher/config_layers.hpp"

namespace llmlaunch::launcher {

bool is_mapping(const YamlNode* node) {
  return node != nullptr && node->kind == YamlNode::Kind::mapping;
}

const YamlNode* value_of(const YamlNode& mapping, std::string_view key) {
  if (!is_mapping(&mapping)) return nullptr;
  for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2)
    if (mapping.items[i].text == key) return &mapping.items[i + 1];
  return nullptr;
}

YamlNode* value_of(YamlNode& mapping, std::string_view key) {
  return const_cast<YamlNode*>(value_of(std::as_const(mapping), key));
}

void set_value(YamlNode& mapping, std::string_view key, ConfigMark mark, YamlNode value) {
  erase_key(mapping, key);
  YamlNode name;
  name.kind = YamlNode::Kind::scalar;
  name.mark = mark;
  name.text = key;
  mapping.items.push_back(std::move(name));
  mapping.items.push_back(std::move(value));
}

void erase_key(YamlNode& mapping, std::string_view key) {
  for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2) {
    if (mapping.items[i].text != key) continue;
    const auto at = mapping.items.begin() + static_cast<std::ptrdiff_t>(i);
    mapping.items.erase(at, at + 2);
    return;
  }
}

Result<void> read_layers(ConfigLayers& layers, const std::string& text, const ConfigInput& input,
                         const ConfigFileReader& read) {
  layers.sources.push_back(std::make_unique<ConfigSource>(input.path, text));
  auto root = parse_yaml(*layers.sources.front(), text);
  if (!root) return root.error();
  layers.root = std::move(*root);
  if (!is_mapping(&layers.root)) return ok;  // what reads it says what is wrong
  if (input.variables_are_settings)
    if (auto done = apply_variables(layers, input.environment); !done) return done;
  if (auto done = apply_settings(layers, input.settings); !done) return done;
  if (auto done = apply_overrides(layers, input.overrides); !done) return done;
  if (auto done = apply_includes(layers, input, read); !done) return done;
  if (YamlNode* own = value_of(layers.root, "llmlaunch"))
    return resolve_references(layers, *own, "llmlaunch", input.environment);
  return ok;
}

std::string without_values(std::string text, const std::vector<std::string>& secrets) {
  constexpr std::size_t kShortest = 4;  // a secret of one letter would mask that letter everywhere
  for (const std::string& secret : secrets) {
    if (text == secret && !secret.empty()) return std::string(kMask);
    if (secret.size() < kShortest) continue;
    for (std::size_t at = 0; (at = text.find(secret, at)) != text.npos; at += kMask.size())
      text.replace(at, secret.size(), kMask);
  }
  return text;
}

Error without_values(Error error, const std::vector<std::string>& secrets) {
  for (std::string* part : {&error.what, &error.where, &error.hint}) *part = without_values(std::move(*part), secrets);
  return error;
}

}  // namespace llmlaunch::launcher
