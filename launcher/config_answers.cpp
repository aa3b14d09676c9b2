// Answers are a flat mapping; what they mean is for the wizard's questions.
#include "launcher/config_answers.hpp"

#include <fmt/format.h>

#include "launcher/config_yaml.hpp"

namespace llmlaunch::launcher {

Result<std::vector<FileAnswer>> parse_answers(const std::string& text, const std::string& name) {
  const ConfigSource source(name, text);
  const auto root = parse_yaml(source, text);
  if (!root) return root.error();
  if (root->kind != YamlNode::Kind::mapping)
    return source.error_at(root->mark, "answers are a mapping", "as in hosts: gpu[01-16]");
  std::vector<FileAnswer> answers;
  for (std::size_t i = 0; i + 1 < root->items.size(); i += 2) {
    const YamlNode &key = root->items[i], &value = root->items[i + 1];
    std::string words = value.text;
    bool good = value.kind != YamlNode::Kind::mapping;
    for (const YamlNode& item : value.items) {
      good = good && item.kind == YamlNode::Kind::scalar;
      words += item.text + "\n";
    }
    if (!good) return source.error_at(value.mark, fmt::format("{} must be a text or a list of texts", key.text));
    answers.push_back({key.text, std::move(words), source.place(key.mark)});
  }
  return answers;
}

}  // namespace llmlaunch::launcher
