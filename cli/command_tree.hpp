/// \file
/// The commands and options as plain text, read from the option parser: what manual pages and shell completion are made
/// of, so that neither can lack an option.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace llmlaunch::cli {

/// What a shell may offer as the value of an option.
enum class ValueKind { none, any, file, directory, words, hosts, user, variable, signal };

struct OptionText {
  std::vector<std::string> names;  ///< "-c", "--config"
  std::string value;               ///< "FILE", "auto|always|never"; empty: a flag
  std::string text;
  std::string group;
  ValueKind kind = ValueKind::none;
  std::vector<std::string> words;  ///< of `ValueKind::words`
  bool repeats = false;
};

struct CommandText {
  std::string name;  ///< "run"; the root's is "llmlaunch"
  std::string description;
  std::vector<std::string> usage;  ///< "llmlaunch run [OPTIONS] PROGRAM [ARGS…]"
  std::vector<OptionText> options;
  std::string notes;                   ///< below the options in its help
  std::string examples;                ///< its lines behind "Examples:", without their blanks in front
  std::vector<std::string> arguments;  ///< words that its argument may be, "bash|zsh|fish" in its usage
  std::vector<CommandText> commands;
};

/// The whole tree below a parser.
CommandText describe_commands(const CLI::App& app);

/// Calls `visit` with the tree of llmlaunch's own parser (cli/options.cpp), which ends with the call.
void visit_command_tree(const std::function<void(const CLI::App&)>& visit);

/// The lines of `text`, without their ends.
std::vector<std::string_view> lines_of(std::string_view text);

}  // namespace llmlaunch::cli
