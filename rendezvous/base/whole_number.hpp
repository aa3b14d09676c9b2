/// \file
/// Whole numbers in files, flags, variables and what peers send.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace llmlaunch {

/// The number that all of `text` is in digits of `base`, with a '-' before it where `T` has a sign. Nothing: it is
/// none, or `T` cannot hold it.
template <std::integral T>
std::optional<T> parse_whole(std::string_view text, int base = 10) {
  T value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, failed] = std::from_chars(text.data(), end, value, base);
  if (failed != std::errc{} || rest != end) return std::nullopt;
  return value;
}

}  // namespace llmlaunch
