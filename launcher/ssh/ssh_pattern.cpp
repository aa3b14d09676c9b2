// Patterns of ssh's files. Linear in memory and at worst |text| × |pattern| steps, whatever a file says.
#include "launcher/ssh/ssh_pattern.hpp"

#include <algorithm>
#include <cstddef>

namespace llmlaunch::launcher::ssh {

bool matches_pattern(std::string_view text, std::string_view pattern) {
  std::size_t t = 0, p = 0;
  // Where to go on when the characters differ: behind the last star, which takes one character more each time.
  std::size_t star = std::string_view::npos, taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      taken = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

ListMatch match_list(std::string_view text, std::string_view patterns) {
  ListMatch answer = ListMatch::no;
  while (!patterns.empty()) {
    const std::size_t end = std::min(patterns.find(','), patterns.size());
    std::string_view pattern = patterns.substr(0, end);
    patterns.remove_prefix(std::min(end + 1, patterns.size()));
    const bool negated = pattern.starts_with('!');
    if (negated) pattern.remove_prefix(1);
    if (pattern.empty() || !matches_pattern(text, pattern)) continue;
    if (negated) return ListMatch::excluded;
    answer = ListMatch::yes;
  }
  return answer;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

}  // namespace llmlaunch::launcher::ssh
