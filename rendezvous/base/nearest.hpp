/// \file
/// "did you mean": the known word nearest to a mistyped one. For configuration keys, flags and subcommands.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <vector>

namespace llmlaunch {

/// Edit distance that counts a swap of neighbours as one: "hsots" is one away from "hosts".
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, previous(b.size() + 1), row(b.size() + 1);
  std::iota(previous.begin(), previous.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = previous;
    previous = row;
  }
  return previous[b.size()];
}

/// The known word that was probably meant, or an empty view when none is near enough to be said aloud: at most a third
/// of the letters may be wrong. Words longer than any real one are not looked at.
template <class Words>
std::string_view nearest(std::string_view typed, const Words& known) {
  constexpr std::size_t kLongest = 64;
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, std::min<std::size_t>(typed.size() / 3, 3)) + 1;
  if (typed.empty() || typed.size() > kLongest) return best;
  for (const std::string_view word : known) {
    const std::size_t distance = edit_distance(typed, word);
    if (distance < best_distance && distance < word.size()) {
      best = word;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace llmlaunch
