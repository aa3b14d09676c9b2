/// \file
/// "1 rank", "2 ranks": a number with its noun, for messages.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace llmlaunch {

/// Of nouns whose plural is made by an s.
inline std::string counted(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

}  // namespace llmlaunch
