/// \file
/// The beginning of a text that is too long for a message. Used by whoever shows what others wrote.
#pragma once

#include <cstddef>
#include <string_view>

namespace llmlaunch {

/// At most so many bytes of it. A letter of UTF-8 is not cut in two: half of it would be shown as bytes.
inline std::string_view cut_text(std::string_view text, std::size_t most_bytes) {
  if (text.size() <= most_bytes) return text;
  std::size_t end = most_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace llmlaunch
