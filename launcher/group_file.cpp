// A file of groups → names and expressions. What the expressions mean is known when they are used (host_expression).
#include "launcher/group_file.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <utility>

#include "launcher/config_yaml.hpp"

namespace llmlaunch::launcher {
namespace {

/// Collects groups, and the first thing that is wrong.
class GroupReader {
 public:
  explicit GroupReader(const ConfigSource& source) : source_(source) {}

  Result<HostGroups> read(const YamlNode& root);

 private:
  void fail(const YamlNode& at, std::string_view what, std::string_view note) {
    if (!error_) error_ = source_.error_at(at.mark, what, note);
  }
  void check_name(const YamlNode& name);
  std::string expression_of(const YamlNode& name, const YamlNode& body);
  void read_source(const YamlNode& name, const YamlNode& body);

  const ConfigSource& source_;
  HostGroups groups_;
  HostGroups of_first_source_;
  bool has_source_ = false;
  std::optional<Error> error_;
};

// Names that an expression would read as something else cannot be called.
void GroupReader::check_name(const YamlNode& name) {
  const bool good = !name.text.empty() && name.text.find_first_of(" \t\n\r,!&^@:*?/[]#'\"") == name.text.npos;
  if (!good) fail(name, fmt::format("'{}' is no name of a group", name.text), "letters, digits, - . and _");
}

std::string GroupReader::expression_of(const YamlNode& name, const YamlNode& body) {
  std::string text = body.text;
  bool good = body.kind != YamlNode::Kind::mapping;
  for (const YamlNode& item : body.items) {
    good = good && item.kind == YamlNode::Kind::scalar;
    text += (text.empty() ? "" : ",") + item.text;
  }
  if (!good) fail(name, fmt::format("group '{}' must be a list of hosts", name.text), "as in gpu: gpu[01-16]");
  return text;
}

void GroupReader::read_source(const YamlNode& source, const YamlNode& body) {
  const bool is_first = !std::exchange(has_source_, true);
  for (std::size_t i = 0; i + 1 < body.items.size(); i += 2) {
    const YamlNode& name = body.items[i];
    check_name(name);
    std::string expression = expression_of(name, body.items[i + 1]);
    if (is_first) of_first_source_.insert_or_assign(name.text, expression);
    groups_.insert_or_assign(source.text + ":" + name.text, std::move(expression));
  }
}

Result<HostGroups> GroupReader::read(const YamlNode& root) {
  if (root.kind != YamlNode::Kind::mapping) fail(root, "expected names of groups and their hosts", "gpu: gpu[01-16]");
  for (std::size_t i = 0; i + 1 < root.items.size() && !error_; i += 2) {
    const YamlNode& name = root.items[i];
    const YamlNode& body = root.items[i + 1];
    check_name(name);
    if (body.kind == YamlNode::Kind::mapping)
      read_source(name, body);
    else
      groups_.insert_or_assign(name.text, expression_of(name, body));
  }
  if (error_) return *error_;
  groups_.merge(of_first_source_);
  return std::move(groups_);
}

}  // namespace

Result<HostGroups> parse_group_file(const std::string& text, const std::string& name) {
  const ConfigSource source(name, text);
  const auto root = parse_yaml(source, text);
  if (!root) return root.error();
  return GroupReader(source).read(*root);
}

}  // namespace llmlaunch::launcher
