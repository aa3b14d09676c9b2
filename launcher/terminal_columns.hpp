/// \file
/// How wide a terminal is, for lines that must not wrap.
#pragma once

#include <cstddef>

namespace llmlaunch::launcher {

/// Without those that the terminal itself uses behind a line; of one that does not say, the usual ones. Asks the
/// terminal each time: people change its size.
std::size_t terminal_columns(int fd);

}  // namespace llmlaunch::launcher
