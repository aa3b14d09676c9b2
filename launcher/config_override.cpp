// Overrides into the tree that parse_yaml made. A place of theirs has line 0 and, as column, the option's number.
#include "launcher/config_override.hpp"

#include <fmt/format.h>

#include <string_view>

namespace llmlaunch::launcher {
namespace {

YamlNode scalar(ConfigMark mark, std::string_view text) {
  YamlNode node;
  node.kind = YamlNode::Kind::scalar;
  node.mark = mark;
  node.text = text;
  return node;
}

/// The value of a key, made as null where there was none. The key gets the new place: messages are about its value.
YamlNode& value_at(YamlNode& mapping, std::string_view key, ConfigMark mark, bool moves) {
  for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2) {
    if (mapping.items[i].text != key) continue;
    if (moves) mapping.items[i].mark = mark;
    return mapping.items[i + 1];
  }
  mapping.items.push_back(scalar(mark, key));
  mapping.items.emplace_back();
  mapping.items.back().mark = mark;
  return mapping.items.back();
}

}  // namespace

std::vector<std::string> options_of(const std::vector<Override>& overrides) {
  std::vector<std::string> options;
  for (const Override& one : overrides) options.push_back(one.option);
  return options;
}

Result<void> apply_overrides(YamlNode& root, const ConfigSource& source, const std::vector<Override>& overrides) {
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    const ConfigMark mark{0, i + 1};
    std::string_view key = overrides[i].key;
    YamlNode* mapping = &root;
    if (const auto dot = key.find('.'); dot != key.npos) {
      YamlNode& section = value_at(root, key.substr(0, dot), mark, false);
      if (section.kind == YamlNode::Kind::null) section.kind = YamlNode::Kind::mapping;
      if (section.kind != YamlNode::Kind::mapping)
        return source.error_at(section.mark, fmt::format("{} must be a mapping", key.substr(0, dot)));
      mapping = &section;
      key.remove_prefix(dot + 1);
    }
    value_at(*mapping, key, mark, true) = scalar(mark, overrides[i].value);
  }
  return ok;
}

}  // namespace llmlaunch::launcher
