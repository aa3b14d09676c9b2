/// \file
/// EMNIST's splits, by the names that torchvision gives them, and how many classes each has. Read by the options and by
/// whoever looks for files.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace llmlaunch::trainer {

struct EmnistSplit {
  const char* name;
  unsigned classes;
};

inline constexpr auto kEmnistSplits = std::to_array<EmnistSplit>(
    {{"balanced", 47}, {"byclass", 62}, {"bymerge", 47}, {"digits", 10}, {"letters", 26}, {"mnist", 10}});

/// Whether the networks here, which tell ten classes apart, can learn it.
inline bool is_learnable(const EmnistSplit& split) {
  return split.classes <= 10;
}

/// nullptr: EMNIST has none of that name.
inline const EmnistSplit* emnist_split(std::string_view name) {
  const auto* const found =
      std::find_if(kEmnistSplits.begin(), kEmnistSplits.end(), [&](const auto& split) { return split.name == name; });
  return found == kEmnistSplits.end() ? nullptr : found;
}

}  // namespace llmlaunch::trainer
