// Lines of a file of settings, as messages show them. Called by ConfigFile::error_at.
#include "trainer/shown_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <optional>
#include <set>

#include "rendezvous/base/nearest.hpp"
#include "trainer/known_arguments.hpp"

namespace llmlaunch::trainer {
namespace {

/// Whether a part of a name has a word for secrets, or is that word with a slip of the finger: "tokn".
bool is_secret_part(std::string_view part) {
  constexpr std::size_t kSlips = 1;
  for (const std::string_view word : {"token", "secret", "password", "passwd", "passphrase", "credential", "key"}) {
    if (part.find(word) != std::string_view::npos) return true;
    const bool long_enough = word.size() > 4 && part.size() + kSlips >= word.size();
    if (long_enough && part.size() <= word.size() + kSlips && edit_distance(part, word) <= kSlips) return true;
  }
  return false;
}

bool in_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

/// Where a word of letters, digits, hyphens and the like that begins at `at` ends.
std::size_t end_of_name(std::string_view line, std::size_t at) {
  while (at < line.size() && in_name(line[at])) ++at;
  return at;
}

/// Where the first name that tells of a secret ends, with quotes and colon behind it; npos: there is none.
std::size_t end_of_secret_name(std::string_view line) {
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = end_of_name(line, at);
    if (end > at && is_secret_name(line.substr(at, end - at))) {
      const std::size_t after = line.find_first_not_of("\"' \t", end);
      return after != std::string_view::npos && line[after] == ':' ? after + 1 : end;
    }
    at = std::max(end, at + 1);
  }
  return std::string_view::npos;
}

/// Where what a line says begins, behind its indentation and what opens a list or a mapping.
std::size_t start_of_words(std::string_view line) {
  return std::min(line.find_first_not_of(" \t,{-?"), line.size());
}

/// Whether a key stands there, so that no value of the line before goes on here.
bool begins_with_key(std::string_view line) {
  const std::size_t start = start_of_words(line);
  const bool quoted = start < line.size() && (line[start] == '"' || line[start] == '\'');
  const std::size_t name = start + (quoted ? 1 : 0);
  std::size_t end = name;
  while (end < line.size() && in_name(line[end])) ++end;
  if (end == name || (quoted && (end == line.size() || line[end] != line[start]))) return false;
  const std::size_t colon = line.find_first_not_of(" \t", end + (quoted ? 1 : 0));
  if (colon == std::string_view::npos || line[colon] != ':') return false;
  return quoted || colon + 1 == line.size() || line[colon + 1] == ' ' || line[colon + 1] == '\t';
}

using Anchors = std::set<std::string, std::less<>>;

/// Where the name of a secret ends, or an anchor of one: "x: &x".
std::size_t start_of_secret(std::string_view line, const Anchors& anchors) {
  std::size_t first = end_of_secret_name(line);
  for (std::size_t at = line.find('&'); at != std::string_view::npos; at = line.find('&', at + 1)) {
    const std::size_t end = end_of_name(line, at + 1);
    if (anchors.contains(line.substr(at + 1, end - at - 1))) first = std::min(first, end);
  }
  return first;
}

/// What of each line, from the first on, may be seen.
class Lines {
 public:
  /// Both outlive it.
  Lines(std::string_view text, const Anchors& anchors) : rest_(text), anchors_(anchors) {}

  bool at_end() const { return rest_.empty(); }

  struct Line {
    std::string_view shown, hidden;
  };
  Line next() {
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (below_ && (start_of_words(line) > *below_ || !begins_with_key(line))) return {{}, line};
    below_.reset();
    const std::size_t secret = start_of_secret(line, anchors_);
    if (secret == std::string_view::npos) return {line, {}};
    below_ = start_of_words(line);
    return {line.substr(0, secret), line.substr(secret)};
  }

 private:
  std::string_view rest_;
  const Anchors& anchors_;
  std::optional<std::size_t> below_;  // the start of the line that names the secret
};

/// The names of the values that are written elsewhere and meant by secrets: "hub_token: *x" means "&x …".
Anchors secret_anchors(std::string_view text) {
  const Anchors none;
  Anchors found;
  for (Lines lines(text, none); !lines.at_end();) {
    const std::string_view hidden = lines.next().hidden;
    for (std::size_t star = hidden.find('*'); star != std::string_view::npos; star = hidden.find('*', star + 1)) {
      found.emplace(hidden.substr(star + 1, end_of_name(hidden, star + 1) - star - 1));
    }
  }
  return found;
}

}  // namespace

bool is_secret_name(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::tolower(c)); });
  const KnownArgument* known = known_argument(lower);
  if (known != nullptr && !lower.ends_with("_token")) return false;  // "include_tokens_per_second" counts
  std::string_view rest = lower;
  for (;;) {
    const std::size_t end = std::min(rest.find('_'), rest.size());
    if (is_secret_part(rest.substr(0, end))) return true;
    if (end == rest.size()) return false;
    rest.remove_prefix(end + 1);
  }
}

std::string shown_line(std::string_view text, std::size_t number) {
  const Anchors anchors = secret_anchors(text);
  Lines lines(text, anchors);
  for (std::size_t at = 1; at < number; ++at) lines.next();
  const auto [shown, hidden] = lines.next();
  if (hidden.empty()) return std::string(shown);
  return shown.empty() ? "…" : fmt::format("{} …", shown);
}

}  // namespace llmlaunch::trainer
