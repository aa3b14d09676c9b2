#include "launcher/file_kind.hpp"

#include <algorithm>
#include <array>

namespace llmlaunch::launcher {
namespace {

constexpr std::array<std::string_view, 9> kKeys{"compute_environment", "distributed_type",  "num_machines",
                                                "num_processes",       "machine_rank",      "mixed_precision",
                                                "main_process_ip",     "main_process_port", "llmlaunch"};

constexpr std::string_view kBlanks = " \t\r";

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line;
}

std::string_view take_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kBlanks));
  line.remove_prefix(word.size());
  return word;
}

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_host(std::string_view word) {
  constexpr std::string_view kMore = ".-_[],:@";
  return !word.empty() && word.back() != ':' && (is_alphanumeric(word.front()) || word.front() == '[') &&
         std::all_of(word.begin(), word.end(),
                     [&](char c) { return is_alphanumeric(c) || kMore.find(c) != kMore.npos; });
}

bool is_slots(std::string_view word) {
  for (const std::string_view key : {"slots=", "max_slots=", "max-slots=", "port="})
    if (word.starts_with(key)) word.remove_prefix(key.size());
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

bool looks_like_configuration(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (line.starts_with('"')) line.remove_prefix(1);
    for (const std::string_view key : kKeys) {
      if (!line.starts_with(key)) continue;
      std::string_view rest = line.substr(key.size());
      if (rest.starts_with('"')) rest.remove_prefix(1);
      if (rest.starts_with(':') && (rest.size() == 1 || kBlanks.find(rest[1]) != kBlanks.npos)) return true;
    }
  }
  return false;
}

bool looks_like_hostfile(std::string_view text) {
  std::size_t hosts = 0;
  bool slots = false;
  while (!text.empty()) {
    std::string_view line = take_line(text);
    line = line.substr(0, line.find('#'));
    const std::string_view host = take_word(line);
    if (host.empty()) continue;
    if (!is_host(host)) return false;
    for (std::string_view word = take_word(line); !word.empty(); word = take_word(line)) {
      if (!is_slots(word)) return false;
      slots = true;
    }
    ++hosts;
  }
  return hosts > 1 || slots;  // one word alone may be anything
}

}  // namespace llmlaunch::launcher
