// yaml-cpp's events → YamlNode. The event interface rather than YAML::Node, because that one forgets duplicate keys and
// expands aliases without a limit. Exceptions end here: yaml-cpp's own and the one by which a handler stops the parser.
#include "launcher/config_yaml.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <unordered_map>

#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::launcher {
namespace {

/// Leaves yaml-cpp's parser from within an event.
struct Stopped {
  Error error;
};

constexpr std::string_view kCoreTag = "tag:yaml.org,2002:";

class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const ConfigSource& source) : source_(source) {}

  YamlNode take_root() { return std::move(root_); }
  /// Of the latest key or value.
  ConfigMark last_mark() const { return last_mark_; }
  /// Of the innermost list or mapping that has not ended.
  ConfigMark open_mark() const { return open_.empty() ? ConfigMark{1, 1} : open_.back().node.mark; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) stop(mark, "a second document; one file holds one configuration");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(node(YamlNode::Kind::null, mark), anchor); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    YamlNode scalar = node(YamlNode::Kind::scalar, mark);
    scalar.text = value;
    scalar.quoted = tag == "!" || tag == std::string(kCoreTag) + "str";
    // "Null" and an empty plain text are nulls too; yaml-cpp reports some of them as scalars.
    if (!scalar.quoted && (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL")) {
      scalar.kind = YamlNode::Kind::null;
    }
    add(std::move(scalar), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (++aliases_ > kMaxConfigAliases) stop(mark, fmt::format("more than {} aliases", kMaxConfigAliases));
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) stop(mark, "an alias inside the value that it names");
    count(at(mark), found->second.nodes);
    YamlNode copy = found->second.node;
    copy.mark = at(mark);
    attach(std::move(copy));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::mapping, mark, tag, anchor);
  }
  void OnMapEnd() override {
    merge(open_.back().node);
    close();
  }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::size_t nodes_before = 0;
    std::unordered_map<std::string, ConfigMark> keys;
  };
  struct Anchored {
    YamlNode node;
    std::size_t nodes = 0;
  };

  [[noreturn]] void stop(const YAML::Mark& mark, std::string_view what, std::string_view note = {}) {
    stop(at(mark), what, note);
  }
  [[noreturn]] void stop(ConfigMark mark, std::string_view what, std::string_view note = {}) {
    throw Stopped{source_.error_at(mark, what, note)};
  }

  ConfigMark at(const YAML::Mark& mark) const {
    return source_.mark_at(static_cast<std::size_t>(std::max(mark.line, 0)) + 1,
                           static_cast<std::size_t>(std::max(mark.column, 0)));
  }

  YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode made;
    made.kind = kind;
    made.mark = last_mark_ = at(mark);
    count(made.mark, 1);
    return made;
  }

  void count(ConfigMark mark, std::size_t more) {
    nodes_ += more;
    if (nodes_ > kMaxConfigNodes) stop(mark, fmt::format("more than {} keys and values", kMaxConfigNodes));
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    for (const std::string_view known : {"str", "int", "float", "bool", "null", "map", "seq"}) {
      if (tag == std::string(kCoreTag) + std::string(known)) return;
    }
    const bool a_text = tag.starts_with('!') && !tag.starts_with("!!");
    stop(mark, fmt::format("the tag '{}' is not supported; write {}", cut_text(tag, 60),
                           a_text ? "quotes around a text that begins with '!'" : "the plain value"));
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check_tag(mark, tag);
    if (open_.size() >= kMaxConfigDepth) stop(mark, fmt::format("nested deeper than {} levels", kMaxConfigDepth));
    const std::size_t before = nodes_;
    open_.push_back({node(kind, mark), anchor, before, {}});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    const std::size_t nodes = nodes_ - done.nodes_before;
    if (done.anchor != 0) {
      count(done.node.mark, nodes);  // the kept copy: anchors around anchors multiply, too
      anchors_[done.anchor] = {done.node, nodes};
    }
    attach(std::move(done.node));
  }

  void add(YamlNode scalar, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = {scalar, 1};
    attach(std::move(scalar));
  }

  void attach(YamlNode child) {
    if (open_.empty()) {
      root_ = std::move(child);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::mapping && parent.node.items.size() % 2 == 0) check_key(parent, child);
    parent.node.items.push_back(std::move(child));
  }

  void check_key(Open& mapping, YamlNode& key) {
    if (key.kind == YamlNode::Kind::null) key = {YamlNode::Kind::scalar, key.mark, "null", false, {}};
    if (key.kind != YamlNode::Kind::scalar) stop(key.mark, "a key must be a plain text");
    const auto [other, added] = mapping.keys.emplace(key.text, key.mark);
    if (!added) {
      stop(key.mark, fmt::format("key '{}' is given twice", cut_text(key.text, 60)),
           fmt::format("first on line {}", other->second.line));
    }
  }

  /// "<<: *defaults": the keys of the named mapping, unless given here.
  void merge(YamlNode& mapping) {
    auto& items = mapping.items;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i].text != "<<" || items[i].quoted) continue;
      YamlNode from = std::move(items[i + 1]);
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(i), items.begin() + static_cast<std::ptrdiff_t>(i) + 2);
      if (from.kind == YamlNode::Kind::mapping) {
        merge_entries(mapping, std::move(from));
      } else if (from.kind == YamlNode::Kind::sequence) {
        for (auto& one : from.items) merge_entries(mapping, std::move(one));
      } else {
        stop(from.mark, "'<<' needs a mapping to take keys from");
      }
      return;
    }
  }

  void merge_entries(YamlNode& mapping, YamlNode from) {
    if (from.kind != YamlNode::Kind::mapping) stop(from.mark, "'<<' needs a mapping to take keys from");
    auto& known = open_.back().keys;
    for (std::size_t i = 0; i + 1 < from.items.size(); i += 2) {
      if (!known.emplace(from.items[i].text, from.items[i].mark).second) continue;
      mapping.items.push_back(std::move(from.items[i]));
      mapping.items.push_back(std::move(from.items[i + 1]));
    }
  }

  const ConfigSource& source_;
  YamlNode root_;
  ConfigMark last_mark_{1, 1};
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t nodes_ = 0;
  std::size_t aliases_ = 0;
  int documents_ = 0;
};

/// "num_machines:2", which is one word to YAML and goes on in the next line.
bool lacks_blank(std::string_view line) {
  const auto colon = line.find(':');
  return colon != line.npos && colon + 1 < line.size() && line[colon + 1] != ' ' && line.find(": ") == line.npos;
}

std::size_t indent_of(std::string_view line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

/// What people who write host names and patterns do not expect of YAML.
std::string_view usual_reason(const ConfigSource& source, const YAML::Exception& caught, ConfigMark mark) {
  const std::string_view line = source.line(mark.line);
  const std::string_view message = caught.msg;
  if (message.find("anchor") != message.npos || message.find("alias") != message.npos) {
    return "a text that begins with '*' or '&' needs quotes";
  }
  const auto offset = static_cast<std::size_t>(std::max(caught.mark.column, 0));
  if (message == YAML::ErrorMsg::UNKNOWN_TOKEN && offset < line.size() &&
      std::string_view("@%`").find(line[offset]) < 3) {
    return "a text that begins with '@', '%' or '`' needs quotes";
  }
  if (message == YAML::ErrorMsg::MAP_VALUE && mark.line > 1 && lacks_blank(source.line(mark.line - 1))) {
    return "is a blank missing behind the ':' of the line before?";
  }
  if (message == YAML::ErrorMsg::END_OF_MAP_FLOW) return "is a ',' or a '}' missing before this?";
  if (message == YAML::ErrorMsg::MAP_VALUE) {
    const auto first = line.find(": ");
    if (first != line.npos && line.find(": ", first + 2) != line.npos)
      return "a key begins a line of its own; a text with ': ' in it needs quotes";
    if (mark.line > 1 && indent_of(line) > indent_of(source.line(mark.line - 1)))
      return "is this line indented further than the one above it by mistake?";
    return "is the line indented as those beside it?";
  }
  const auto outer = line.find('[');
  const auto inner = outer == line.npos ? outer : line.find('[', outer + 1);  // [gpu[01-02], login]
  const bool range =
      inner != line.npos && inner + 1 < line.size() && std::isdigit(static_cast<unsigned char>(line[inner + 1]));
  if (range) return "inside a list, a name with brackets needs quotes: ['gpu[01-16]']";
  return message == YAML::ErrorMsg::END_OF_SEQ_FLOW ? "is a ',' or a ']' missing before this?" : "";
}

/// Has the text nothing more from this line on?
bool ends_before(const ConfigSource& source, std::size_t line_number) {
  for (; line_number <= source.line_count(); ++line_number) {
    if (source.line(line_number).find_first_not_of(" \t") != std::string_view::npos) return false;
  }
  return true;
}

/// yaml-cpp's own words, with the usual reasons first: an end that is missing, a tab where YAML wants spaces.
Error syntax_error(const ConfigSource& source, const YAML::Exception& caught, const TreeBuilder& builder) {
  if (caught.msg == YAML::ErrorMsg::DOC_IN_SCALAR || caught.msg == YAML::ErrorMsg::EOF_IN_SCALAR) {
    return source.error_at(builder.last_mark(), "a text in quotes that begins here has no closing quote");
  }
  const auto line_number = static_cast<std::size_t>(std::max(caught.mark.line, 0)) + 1;
  const bool list = caught.msg == YAML::ErrorMsg::END_OF_SEQ_FLOW;
  if ((list || caught.msg == YAML::ErrorMsg::END_OF_MAP_FLOW) && ends_before(source, line_number)) {
    return source.error_at(builder.open_mark(), list ? "a '[' without ']'" : "a '{' without '}'");
  }
  for (const std::size_t candidate : {line_number, line_number - 1}) {
    if (candidate < 1 || candidate > source.line_count()) continue;
    const auto line = source.line(candidate);
    const auto first = line.find_first_not_of(" \t");
    const auto tab = line.substr(0, first).find('\t');
    if (tab == line.npos || first == line.npos) continue;
    return source.error_at(source.mark_at(candidate, tab), "a tab in the indentation", "YAML indents by spaces");
  }
  const auto mark = source.mark_at(line_number, static_cast<std::size_t>(std::max(caught.mark.column, 0)));
  if (caught.mark.is_null()) return source.error_at({}, "not valid YAML: " + caught.msg);
  return source.error_at(mark, "not valid YAML: " + caught.msg, usual_reason(source, caught, mark));
}

/// The byte offset of the first byte that is no UTF-8, if there is one.
std::optional<std::size_t> not_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || at + length > text.size()) return at;
    for (std::size_t i = 1; i < length; ++i) {
      if ((static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return at;
    }
    at += length;
  }
  return std::nullopt;
}

Result<void> check_bytes(const ConfigSource& source, std::string_view text) {
  const auto place_of = [&](std::size_t at) {
    const auto before = text.substr(0, at);
    const auto lines = std::count(before.begin(), before.end(), '\n');
    const auto start = before.rfind('\n');
    return source.mark_at(static_cast<std::size_t>(lines) + 1, start == before.npos ? at : at - start - 1);
  };
  if (const auto zero = text.find('\0'); zero != text.npos) {
    return source.error_at({}, "this is no text file: it has a zero byte",
                           fmt::format("see {}", source.place(place_of(zero))));
  }
  if (const auto at = not_utf8(text)) {
    return source.error_at({}, "this is not UTF-8 text",
                           fmt::format("the first wrong byte is at {}", source.place(place_of(*at))));
  }
  return ok;
}

}  // namespace

Result<YamlNode> parse_yaml(const ConfigSource& source, const std::string& text) {
  auto root = parse_yaml_value(source, text);
  if (root && root->kind == YamlNode::Kind::null) root->kind = YamlNode::Kind::mapping;
  return root;
}

Result<YamlNode> parse_yaml_value(const ConfigSource& source, const std::string& text) {
  if (text.size() > kMaxConfigBytes) {
    return source.error_at({}, fmt::format("the file has {} bytes; at most {} are read", text.size(), kMaxConfigBytes));
  }
  if (auto checked = check_bytes(source, text); !checked) return checked.error();
  TreeBuilder builder(source);
  try {
    // yaml-cpp 0.7 takes the end of the file for a closing quote when a line ends there, but not the end of a document.
    std::istringstream stream(text + (text.ends_with('\n') ? "...\n" : "\n...\n"));
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take_root();
  } catch (const Stopped& stopped) {
    return stopped.error;
  } catch (const YAML::Exception& caught) {
    return syntax_error(source, caught, builder);
  }
}

}  // namespace llmlaunch::launcher
