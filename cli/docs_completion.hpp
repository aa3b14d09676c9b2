/// \file
/// Completion for bash, zsh and fish: a script that the shell reads once, from what the option parser knows. No host
/// and no file of llmlaunch's is read when a word is completed.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "cli/command_tree.hpp"

namespace llmlaunch::cli {

inline constexpr std::array<std::string_view, 3> kShells{"bash", "zsh", "fish"};

/// Nothing for a shell that is none of `kShells`.
std::optional<std::string> completion_script(const CommandText& root, std::string_view shell);

/// Each in a file of its own.
std::string bash_completion(const CommandText& root);
std::string zsh_completion(const CommandText& root);
std::string fish_completion(const CommandText& root);

/// Does a program of the user's follow the options? Then its words are completed by the shell's own rules.
bool takes_program(const CommandText& command);

}  // namespace llmlaunch::cli
