/// \file
/// Text as it can stand on one row of a terminal that somebody else draws on, and how much room it takes there. Knows
/// UTF-8 and how wide its letters are, whatever the locale. Pure; used for the live line, and for prefixes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llmlaunch::launcher {

/// Without colours, links, and whatever else is no letter: a tab is a blank, bytes that are no UTF-8 are "?", control
/// characters nothing. At most so many columns: a wide letter takes two, a combining one none.
std::string row_text(std::string_view text, std::size_t columns = std::string::npos);

/// How many columns `row_text` of it takes.
std::size_t row_width(std::string_view text);

/// Whether `row_text` of it is blanks alone, or nothing.
bool is_blank_row(std::string_view text);

}  // namespace llmlaunch::launcher
