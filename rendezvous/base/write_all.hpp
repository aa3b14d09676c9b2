/// \file
/// write(2) until all is written.
#pragma once

#include <string_view>

namespace llmlaunch {

/// 0, or the errno of the write that failed; what came before it is written. Goes on after a signal (EINTR). For files,
/// and for descriptors that block.
[[nodiscard]] int write_all(int fd, std::string_view bytes);

}  // namespace llmlaunch
