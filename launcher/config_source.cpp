// Places in a configuration file, and the message with the line and the caret. Knows nothing of YAML.
#include "launcher/config_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace llmlaunch::launcher {
namespace {

// A terminal's usual width less the line number: an environment value of 100 kB must not fill the screen.
constexpr std::size_t kShownCharacters = 100;

bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}  // UTF-8

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if (continues_character(c) && !characters.empty()) {
      characters.back() += c;
    } else {
      const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
      characters.emplace_back(1, control ? ' ' : c);  // a tab as one column, so that the caret stands right
    }
  }
  return characters;
}

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// The line up to the first value whose name says that it is a secret.
std::string shown_line(std::string_view line) {
  for (std::size_t at = 0; at < line.size();) {
    std::size_t end = at;
    while (end < line.size() && is_name_character(line[end])) ++end;
    if (end > at) {
      std::size_t after = end;
      while (after < line.size() && (line[after] == '"' || line[after] == '\'' || line[after] == ' ')) ++after;
      const auto name = line.substr(at, end - at);
      const bool value_follows = after < line.size() && (line[after] == ':' || line[after] == '=');
      if (value_follows && names_secret(name) && name != "host_key_policy" && name != "LLMLAUNCH_SSH_HOST_KEY_POLICY") {
        return std::string(line.substr(0, after + 1)) + " …";
      }
    }
    at = std::max(end, at + 1);
  }
  return std::string(line);
}

}  // namespace

ConfigSource::ConfigSource(std::string name, std::string_view text) : name_(std::move(name)), text_(text) {
  std::string_view rest = text_;
  for (;;) {
    const auto end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines_.push_back(line);
    if (end == rest.npos) return;
    rest.remove_prefix(end + 1);
  }
}

std::unique_ptr<ConfigSource> ConfigSource::of_value(ConfigOrigin origin, std::string name, std::string_view text,
                                                     std::string before) {
  auto source = std::make_unique<ConfigSource>(std::move(name), text);
  source->before_ = std::move(before);
  source->origin_ = origin;
  return source;
}

std::string ConfigSource::place(ConfigMark mark) const {
  if (mark.source && mark.source != this) return mark.source->place(mark);
  return mark.line == 0 || !is_file() ? name_ : fmt::format("{}:{}:{}", name_, mark.line, mark.column);
}

ConfigPlace ConfigSource::origin_of(ConfigMark mark) const {
  return {place(mark), (mark.source ? mark.source : this)->origin_};
}

ConfigMark ConfigSource::mark_at(std::size_t line_number, std::size_t byte_offset) const {
  line_number = std::clamp<std::size_t>(line_number, 1, lines_.size());
  const std::string_view before = line(line_number).substr(0, byte_offset);
  const auto characters = before.size() - std::count_if(before.begin(), before.end(), continues_character);
  return {line_number, static_cast<std::size_t>(characters) + 1, this};
}

Error ConfigSource::error_at(ConfigMark mark, std::string_view what, std::string_view note) const {
  if (mark.source && mark.source != this) return mark.source->error_at(mark, what, note);
  if (mark.line == 0 || mark.line > lines_.size()) {
    return make_error(Errc::invalid_config, std::string(what), name_, std::string(note));
  }
  const std::string before = mark.line == 1 ? before_ : "";
  const auto characters = characters_of(shown_line(before + std::string(line(mark.line))));
  const std::size_t caret = std::min(characters_of(before).size() + mark.column - 1, characters.size());
  // A long line is shown around the caret, and the cuts are marked.
  const std::size_t begin = caret > kShownCharacters * 3 / 4 ? caret - kShownCharacters / 2 : 0;
  const std::size_t end = std::min(characters.size(), begin + kShownCharacters);
  std::string shown = begin > 0 ? "…" : "";
  for (std::size_t i = begin; i < end; ++i) shown += characters[i];
  if (end < characters.size()) shown += "…";
  const std::string number = fmt::format("{:5}", mark.line);
  const std::string gap(caret - begin + (begin > 0 ? 1 : 0), ' ');
  return make_error(Errc::invalid_config,
                    fmt::format("{}\n{} | {}\n{} | {}^{}{}", what, number, shown, std::string(number.size(), ' '), gap,
                                note.empty() ? "" : " ", note),
                    place(mark));
}

}  // namespace llmlaunch::launcher
