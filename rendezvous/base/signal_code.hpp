/// \file
/// An error code that says which signal ended what was going on, so that the exit status can: 143 after SIGTERM.
#pragma once

#include <system_error>

namespace llmlaunch {

/// "ended by signal 15". Not equal to `Errc::interrupted`, which does not know the number.
std::error_code signal_code(int signal) noexcept;

/// The number that signal_code() was given; 0: the code is of another category.
int signal_of(const std::error_code& code) noexcept;

}  // namespace llmlaunch
