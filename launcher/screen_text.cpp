// One letter after the other. The C library knows how wide they are, but only in a locale of UTF-8: the thread is in
// one for as long as it asks.
#include "launcher/screen_text.hpp"

#include <clocale>
#include <cwchar>
#include <optional>

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kUnknown = "?";

/// For the calling thread.
class Utf8Locale {
 public:
  Utf8Locale() {
    static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (utf8 != nullptr) before_ = ::uselocale(utf8);
  }
  ~Utf8Locale() {
    if (before_ != nullptr) ::uselocale(before_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  locale_t before_ = nullptr;
};

struct Letter {
  std::size_t bytes = 1;
  char32_t code = 0;
  bool valid = true;
};

bool continues_letter(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

/// Of a letter that begins with this byte; 0: none does.
std::size_t length_by_first(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/// The first letter of a text that is not empty. What is none is one byte long.
Letter letter_of(std::string_view text) {
  constexpr std::size_t kBitsBehind = 6;
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto first = static_cast<unsigned char>(text.front());
  const std::size_t length = length_by_first(first);
  if (length == 1) return {1, first, true};
  if (length == 0 || length > text.size()) return {1, 0, false};
  char32_t code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if (!continues_letter(text[i])) return {1, 0, false};
    code = (code << kBitsBehind) | (static_cast<unsigned char>(text[i]) & 0x3fU);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (code < kLeast[length] || code > 0x10ffff || surrogate) return {1, 0, false};
  return {length, code, true};
}

/// How many bytes an escape sequence has, from its "\x1b" on.
std::size_t length_of_escape(std::string_view text) {
  constexpr std::string_view kOpensString = "]P_^X";
  if (text.size() < 2) return text.size();
  if (text[1] == '[') {
    const auto is_at = [text](std::size_t at, unsigned char first, unsigned char last) {
      const auto byte = static_cast<unsigned char>(at < text.size() ? text[at] : '\0');  // char may have a sign or none
      return byte >= first && byte <= last;
    };
    std::size_t at = 2;
    while (is_at(at, 0x20, 0x3f)) ++at;
    return is_at(at, 0x40, 0x7e) ? at + 1 : at;
  }
  if (kOpensString.find(text[1]) == kOpensString.npos) return 1;  // what is behind it is seen, or left out by itself
  const std::size_t end = text.find_first_of("\a\x1b", 2);
  if (end == text.npos) return text.size();
  return text[end] == '\x1b' && end + 1 < text.size() && text[end + 1] == '\\' ? end + 2 : end + 1;
}

bool is_control_code(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

/// Columns of a letter; of control characters, and of what the C library does not know, there are none.
std::optional<std::size_t> columns_of_letter(char32_t code) {
  if (is_control_code(code)) return std::nullopt;
  if (code < 0x7f) return 1;
  const int width = ::wcwidth(static_cast<wchar_t>(code));
  return width < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(width));
}

/// What a row shows of a letter, and how many columns that takes.
struct Shown {
  std::string_view bytes;
  std::size_t columns = 0;
};

Shown shown_of(const Letter& letter, std::string_view bytes) {
  if (letter.valid && letter.code == '\t') return {" ", 1};
  if (letter.valid && is_control_code(letter.code)) return {};
  const auto columns = letter.valid ? columns_of_letter(letter.code) : std::nullopt;
  return columns ? Shown{bytes, *columns} : Shown{kUnknown, 1};
}

/// Calls `take` with what is shown of each letter, until it says no.
template <class Take>
void for_each_shown(std::string_view text, const Take& take) {
  const Utf8Locale utf8;
  while (!text.empty()) {
    if (text.front() == '\x1b') {
      text.remove_prefix(length_of_escape(text));
      continue;
    }
    const Letter letter = letter_of(text);
    if (!take(shown_of(letter, text.substr(0, letter.bytes)))) return;
    text.remove_prefix(letter.bytes);
  }
}

}  // namespace

std::string row_text(std::string_view text, std::size_t columns) {
  std::string row;
  std::size_t used = 0;
  for_each_shown(text, [&](const Shown& shown) {
    if (used + shown.columns > columns) return false;
    used += shown.columns;
    row += shown.bytes;
    return true;
  });
  return row;
}

std::size_t row_width(std::string_view text) {
  std::size_t width = 0;
  for_each_shown(text, [&](const Shown& shown) {
    width += shown.columns;
    return true;
  });
  return width;
}

bool is_blank_row(std::string_view text) {
  bool blank = true;
  for_each_shown(text, [&](const Shown& shown) { return blank = shown.bytes.empty() || shown.bytes == " "; });
  return blank;
}

}  // namespace llmlaunch::launcher
