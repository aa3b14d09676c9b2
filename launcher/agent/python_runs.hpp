/// \file
/// Whether llmlaunch has put a Python before the words of a command. Used by the plan, by Prepare and by the agent's
/// checks.
#pragma once

#include <cstdint>

namespace llmlaunch::launcher::agent {

/// What argv[0] is when the head has put a Python before the user's words: argv is {python, "-u", SCRIPT, …} or
/// {python, "-u", "-m", MODULE, …}.
enum class PythonRuns : std::uint8_t { nothing, script, module };

}  // namespace llmlaunch::launcher::agent
