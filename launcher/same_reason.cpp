// A small scanner: words of a text, each kept or replaced by a sign for its kind.
#include "launcher/same_reason.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kQuotedLine = "   | ";

bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}

bool in_word(char c) {
  return is_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_' ||
         c == ':' || c == '[' || c == ']' || c == '%' || static_cast<unsigned char>(c) >= 0x80;
}

/// "10.0.0.1", "10.0.0.1:22", "[fd00::1]:22", "fd00::1".
bool is_address(std::string word) {
  if (word.starts_with('[')) {
    const auto close = word.find(']');
    if (close == word.npos) return false;
    word = word.substr(1, close - 1);
  } else if (std::count(word.begin(), word.end(), ':') == 1) {
    word.resize(word.find(':'));
  }
  in6_addr six{};
  in_addr four{};
  return ::inet_pton(AF_INET, word.c_str(), &four) == 1 ||
         ::inet_pton(AF_INET6, word.substr(0, word.find('%')).c_str(), &six) == 1;
}

/// "gpu07", "gpu07:22".
bool is_named_host(std::string_view word, std::string_view host) {
  if (host.empty() || !word.starts_with(host)) return false;
  const std::string_view rest = word.substr(host.size());
  return rest.empty() || (rest.front() == ':' && std::all_of(rest.begin() + 1, rest.end(), is_ascii_digit));
}

std::string with_numbers_hidden(std::string_view line) {
  std::string out;
  for (const char c : line)
    if (!is_ascii_digit(c))
      out += c;
    else if (!out.ends_with('#'))
      out += '#';
  return out;
}

std::string key_of_line(std::string_view line, std::string_view host) {
  if (line.find(kQuotedLine) != line.npos) return with_numbers_hidden(line);
  std::string out;
  while (!line.empty()) {
    const auto begin = static_cast<std::size_t>(std::find_if(line.begin(), line.end(), in_word) - line.begin());
    out += line.substr(0, begin);
    line.remove_prefix(begin);
    const auto size = static_cast<std::size_t>(std::find_if_not(line.begin(), line.end(), in_word) - line.begin());
    std::string_view word = line.substr(0, size);
    line.remove_prefix(size);
    std::string_view behind;  // the end of a sentence is no part of its last word
    while (!word.empty() && (word.back() == '.' || word.back() == ':')) {
      behind = std::string_view(word.data() + word.size() - 1, behind.size() + 1);
      word.remove_suffix(1);
    }
    const bool attempts =
        out.ends_with('(') && line.starts_with(" attempts)") && std::all_of(word.begin(), word.end(), is_ascii_digit);
    if (is_named_host(word, host))
      out += "\x01";
    else if (is_address(std::string(word)))
      out += "\x02";
    else
      out += attempts ? std::string_view("#") : word;
    out += behind;
  }
  return out;
}

bool all_are(const std::vector<std::string>& texts, const std::string& text) {
  return std::all_of(texts.begin(), texts.end(), [&](const std::string& one) { return one == text; });
}

}  // namespace

std::string reason_key(std::string_view text, std::string_view host) {
  std::string key;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    key += key_of_line(text.substr(0, end), host);
    key += '\n';
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return key;
}

std::string reason_of_many(const std::string& first_text, std::string_view first_host,
                           const std::vector<std::string>& texts) {
  if (all_are(texts, first_text)) return first_text;
  const std::size_t line = std::min(first_text.find('\n'), first_text.size());
  return fmt::format("{} (that is {}; the others alike){}", first_text.substr(0, line), first_host,
                     first_text.substr(line));
}

std::string hint_of_many(const std::string& first_hint, std::string_view first_host,
                         const std::vector<std::string>& hints, const std::vector<std::string>& texts) {
  const bool said = !texts.empty() && !all_are(texts, texts.front());
  return said ? first_hint : reason_of_many(first_hint, first_host, hints);
}

}  // namespace llmlaunch::launcher
