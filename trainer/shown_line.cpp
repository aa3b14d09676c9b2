// Lines of a file of settings, as messages show them. Called by ConfigFile::error_at.
#include "trainer/shown_line.hpp"

#include <algorithm>
#include <cctype>
#include <optional>

namespace llmlaunch::trainer {
namespace {

/// A name that says that its value is a secret: "hub_token".
bool is_secret_name(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char* word : {"token", "secret", "password", "api_key", "credential"}) {
    if (lower.find(word) != std::string::npos) return true;
  }
  return false;
}

bool in_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

/// Where the first name that tells of a secret ends, with quotes and colon behind it; npos: there is none.
std::size_t end_of_secret_name(std::string_view line) {
  for (std::size_t at = 0; at < line.size();) {
    std::size_t end = at;
    while (end < line.size() && in_name(line[end])) ++end;
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

}  // namespace

std::string shown_line(std::string_view text, std::size_t number) {
  std::optional<std::size_t> below;  // the start of the line that names the secret
  const auto goes_on = [&](std::string_view line) {
    return below && (start_of_words(line) > *below || !begins_with_key(line));
  };
  for (std::size_t at = 1; at < number; ++at) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (!goes_on(line)) {
      below.reset();
      if (end_of_secret_name(line) != std::string_view::npos) below = start_of_words(line);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (goes_on(line)) return "…";
  const std::size_t secret = end_of_secret_name(line);
  return secret == std::string_view::npos ? std::string(line) : std::string(line.substr(0, secret)) + " …";
}

}  // namespace llmlaunch::trainer
