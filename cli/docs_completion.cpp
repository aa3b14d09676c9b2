// What the scripts for all shells share.
#include "cli/docs_completion.hpp"

#include <algorithm>

namespace llmlaunch::cli {

std::optional<std::string> completion_script(const CommandText& root, std::string_view shell) {
  if (shell == "bash") return bash_completion(root);
  if (shell == "zsh") return zsh_completion(root);
  if (shell == "fish") return fish_completion(root);
  return std::nullopt;
}

bool takes_program(const CommandText& command) {
  return std::any_of(command.usage.begin(), command.usage.end(),
                     [](const std::string& line) { return line.find("PROGRAM") != line.npos; });
}

}  // namespace llmlaunch::cli
