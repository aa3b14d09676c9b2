/// \file
/// Asks a person at the terminal of this process, /dev/tty, for something that is not shown while it is typed. stdin is
/// not touched. Blocks; for a thread of its own, or for before anything else runs.
#pragma once

#include <chrono>
#include <string>

#include "launcher/ssh/secret.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

/// Who has walked away is not waited for any longer than this.
inline constexpr std::chrono::minutes kPromptPatience{10};

/// There is a terminal, and we run in its foreground: under cron, behind `&` and without a session's terminal there is
/// nobody to ask.
bool has_terminal();

/// The line that was typed, without its end. Echo is off meanwhile, and is as it was before afterwards, however it
/// ends. `stop_fd` becomes readable when no answer is wanted any more: `Errc::canceled`. `Errc::unsupported`: no
/// terminal; `Errc::closed`: Ctrl-D; `Errc::timed_out`; `Errc::too_large`.
Result<Secret> ask_at_terminal(const std::string& prompt, int stop_fd);

/// The same when no signal is caught yet: one that ends the process does so after the terminal is as it was.
Result<Secret> ask_before_all(const std::string& prompt);

}  // namespace llmlaunch::launcher::ssh
