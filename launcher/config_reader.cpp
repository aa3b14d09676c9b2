// One value of one type at a time, and the words for what is wrong with it.
#include "launcher/config_reader.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config_schema.hpp"
#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/nearest.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

/// A value as it stands in a message.
std::string described(const YamlNode& value) {
  switch (value.kind) {
    case YamlNode::Kind::null: return "nothing";
    case YamlNode::Kind::sequence: return "a list";
    case YamlNode::Kind::mapping: return "a mapping";
    case YamlNode::Kind::scalar: break;
  }
  constexpr std::size_t kMost = 60;
  if (value.secret) return fmt::format("'{}'", kMask);
  if (value.text.size() <= kMost) return fmt::format("'{}'", value.text);
  return fmt::format("'{}…'", cut_text(value.text, kMost));
}

std::string what_was_meant(std::string_view key, const std::vector<std::string_view>& known) {
  const auto before_colon = key.substr(0, key.find(':'));  // "num_machines:2" is one word to YAML
  if (before_colon != key && std::find(known.begin(), known.end(), before_colon) != known.end()) {
    return fmt::format("a blank is missing behind '{}:'", before_colon);
  }
  const std::string_view meant = nearest(key, known);
  return meant.empty() ? "" : fmt::format("did you mean '{}'?", meant);
}

/// The same; else where such a key belongs; else what there is, where that is not much.
std::string what_is_known(std::string_view path, std::string_view key, const std::vector<std::string_view>& known) {
  if (std::string meant = what_was_meant(key, known); !meant.empty()) return meant;
  if (key == "null") return "no key stands here: a ',' or ':' too many?";
  for (const Setting& setting : settings()) {
    if (key_of(setting) != key || section_of(setting).ends_with("[]")) continue;
    const auto section = section_of(setting);
    return section.empty() ? fmt::format("'{}' belongs to the top of the file, beside 'llmlaunch:'", key)
                           : fmt::format("'{}' belongs below '{}:'", key, section);
  }
  constexpr std::size_t kFew = 16;
  if (known.size() <= kFew) return fmt::format("known are {}", fmt::join(known, ", "));
  return path.empty() ? "llmlaunch docs reference lists the keys" : "";
}

}  // namespace

void ConfigCheck::fail(ConfigMark mark, std::string_view what, std::string_view note) {
  if (!error) error = source.error_at(mark, what, note);
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  const auto digits = text.starts_with('-') ? text.substr(1) : text;
  const bool octal_look = digits.size() > 1 && digits.front() == '0';  // 010 is 8 to some readers of YAML, 10 to others
  return octal_look ? std::nullopt : parse_whole<std::int64_t>(text);
}

MapReader::MapReader(ConfigCheck& check, const YamlNode& mapping, std::string path, std::vector<std::string_view> known)
    : check_(check), mapping_(mapping), path_(std::move(path)) {
  if (mapping.kind != YamlNode::Kind::mapping) {
    // A file that was named by mistake may be a list of secrets: its text is not repeated, nor its line shown.
    const bool whole_text = path_.empty() && mapping.kind == YamlNode::Kind::scalar;
    check_.fail(whole_text ? ConfigMark{} : mapping.mark,
                fmt::format("{} must {} a mapping of keys to values, not {}", path_.empty() ? "the file" : path_,
                            path_.empty() ? "hold" : "be", whole_text ? "a text" : described(mapping)),
                whole_text ? what_was_meant(mapping.text, known) : "");
    return;
  }
  for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2) {
    const YamlNode& key = mapping.items[i];
    if (std::find(known.begin(), known.end(), key.text) != known.end()) continue;
    const std::string inside = path_.empty() ? "" : fmt::format(" in {}", path_);
    check_.fail(key.mark, fmt::format("unknown key {}{}", described(key), inside),
                what_is_known(path_, key.text, known));
  }
}

const YamlNode* MapReader::find(std::string_view key) const {
  if (mapping_.kind != YamlNode::Kind::mapping) return nullptr;
  for (std::size_t i = 0; i + 1 < mapping_.items.size(); i += 2) {
    if (mapping_.items[i].text == key) {
      return mapping_.items[i + 1].kind == YamlNode::Kind::null ? nullptr : &mapping_.items[i + 1];
    }
  }
  return nullptr;
}

ConfigMark MapReader::key_mark(std::string_view key) const {
  if (mapping_.kind != YamlNode::Kind::mapping) return {};
  for (std::size_t i = 0; i + 1 < mapping_.items.size(); i += 2) {
    if (mapping_.items[i].text == key) return mapping_.items[i].mark;
  }
  return {};
}

std::string MapReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void MapReader::refuse(std::string_view key, const YamlNode& value, std::string_view must_be) {
  check_.fail(value.mark, fmt::format("{} must be {}, not {}", path_of(key), must_be, described(value)));
}

const YamlNode* MapReader::scalar(std::string_view key, std::string_view must_be) {
  const YamlNode* value = find(key);
  if (value && value->kind != YamlNode::Kind::scalar) {
    refuse(key, *value, must_be);
    return nullptr;
  }
  return value;
}

std::optional<std::string> MapReader::text(std::string_view key) {
  const YamlNode* value = scalar(key, "a text");
  if (!value) return std::nullopt;
  if (value->text.empty() || value->text.find('\0') != std::string::npos) {
    check_.fail(value->mark,
                fmt::format("{} {}", path_of(key), value->text.empty() ? "is empty" : "holds a zero byte"));
    return std::nullopt;
  }
  return value->text;
}

std::vector<std::string> MapReader::texts(std::string_view key) {
  const YamlNode* value = find(key);
  if (!value) return {};
  if (value->kind == YamlNode::Kind::scalar) {
    auto one = text(key);
    return one ? std::vector<std::string>{std::move(*one)} : std::vector<std::string>{};
  }
  std::vector<std::string> all;
  if (value->kind != YamlNode::Kind::sequence) {
    refuse(key, *value, "a text or a list of texts");
    return all;
  }
  for (const YamlNode& item : value->items) {
    const bool good =
        item.kind == YamlNode::Kind::scalar && !item.text.empty() && item.text.find('\0') == item.text.npos;
    if (good) {
      all.push_back(item.text);
    } else if (item.kind == YamlNode::Kind::scalar && item.text.empty()) {
      check_.fail(item.mark, fmt::format("{} has an empty text in its list", path_of(key)));
    } else {
      check_.fail(item.mark,
                  fmt::format("{} must be a text or a list of texts; {} is neither", path_of(key), described(item)));
    }
  }
  return all;
}

std::optional<bool> MapReader::boolean(std::string_view key) {
  constexpr std::string_view kMust = "true or false";
  const YamlNode* value = scalar(key, kMust);
  if (!value) return std::nullopt;
  std::string lower = value->text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true" || lower == "yes" || lower == "on") return true;
  if (lower == "false" || lower == "no" || lower == "off") return false;
  refuse(key, *value, kMust);
  return std::nullopt;
}

std::optional<std::uint64_t> MapReader::integer(std::string_view key, std::uint64_t least, std::uint64_t most) {
  const std::string must = fmt::format("a whole number from {} to {}", least, most);
  const YamlNode* value = scalar(key, must);
  if (!value) return std::nullopt;
  const auto number = parse_integer(value->text);
  if (!number || *number < 0 || static_cast<std::uint64_t>(*number) < least ||
      static_cast<std::uint64_t>(*number) > most) {
    refuse(key, *value, must);
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(*number);
}

std::optional<std::chrono::milliseconds> MapReader::duration(std::string_view key, std::chrono::milliseconds least) {
  constexpr std::string_view kMust = "a time: seconds, or a number with ms, s, m or h";
  const YamlNode* value = scalar(key, kMust);
  if (!value) return std::nullopt;
  const auto parsed = parse_duration(value->text);
  if (!parsed) {
    refuse(key, *value, kMust);
    return std::nullopt;
  }
  if (*parsed < least) {
    refuse(key, *value, fmt::format("at least {} s", std::chrono::duration<double>(least).count()));
    return std::nullopt;
  }
  return *parsed;
}

EnvList MapReader::env(std::string_view key) {
  EnvList list;
  const YamlNode* value = find(key);
  if (!value) return list;
  const std::string path = path_of(key);
  if (value->kind != YamlNode::Kind::mapping) {
    refuse(key, *value, "a mapping of variables to values");
    return list;
  }
  for (std::size_t i = 0; i + 1 < value->items.size(); i += 2) {
    const YamlNode& name = value->items[i];
    const YamlNode& content = value->items[i + 1];
    // The values may be secrets: messages name the variable, show its line, and never its value.
    if (name.text.empty() || name.text.find_first_of(std::string_view("=\0", 2)) != name.text.npos) {
      check_.fail(name.mark, fmt::format("{}: a variable's name cannot be empty or hold '='", path));
    } else if (set_by_llmlaunch(name.text)) {
      check_.fail(name.mark, fmt::format("{}.{}: llmlaunch gives every rank its own {}", path, name.text, name.text));
    } else if (content.kind == YamlNode::Kind::null) {
      check_.fail(name.mark, fmt::format("{}.{} has no value", path, name.text),
                  "write '' for an empty one, or name it in forward_env");
    } else if (content.kind != YamlNode::Kind::scalar) {
      check_.fail(name.mark, fmt::format("{}.{} must be a text", path, name.text));
    } else if (content.text.find('\0') != std::string::npos) {
      check_.fail(name.mark, fmt::format("{}.{} holds a zero byte", path, name.text));
    } else {
      list.emplace_back(name.text, content.text);
    }
  }
  return list;
}

}  // namespace llmlaunch::launcher
