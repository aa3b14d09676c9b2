// zsh 5: _arguments for each command; a program of the user's is completed by its own rules (_normal).
#include <fmt/format.h>

#include <algorithm>

#include "cli/docs_completion.hpp"

namespace llmlaunch::cli {
namespace {

/// Inside '…' of the shell, and inside […] or before : of _arguments.
std::string zsh_escaped(std::string_view text) {
  std::string out;
  for (const char letter : text) {
    if (letter == '\'') {
      out += "'\\''";
      continue;
    }
    if (letter == '[' || letter == ']' || letter == ':' || letter == '\\') out += '\\';
    out += letter;
  }
  return out;
}

std::string zsh_action_of(const OptionText& option) {
  switch (option.kind) {
    case ValueKind::file: return "_files";
    case ValueKind::directory: return "_files -/";
    case ValueKind::words: return fmt::format("({})", fmt::join(option.words, " "));
    case ValueKind::hosts: return "_hosts";
    case ValueKind::user: return "_users";
    case ValueKind::variable: return "_parameters -g \"*export*\"";
    case ValueKind::signal: return "_signals -s";
    case ValueKind::none:
    case ValueKind::any: break;
  }
  return " ";
}

std::string specs_of(const OptionText& option) {
  std::string out;
  for (const auto& name : option.names) {
    const std::string others = option.repeats ? "*" : fmt::format("({})", fmt::join(option.names, " "));
    const std::string joined = option.value.empty() ? "" : name.starts_with("--") ? "=" : "+";
    out += fmt::format("    '{}{}{}[{}]", others, name, joined, zsh_escaped(option.text));
    if (!option.value.empty()) out += fmt::format(":{}:{}", zsh_escaped(option.value), zsh_action_of(option));
    out += "' \\\n";
  }
  return out;
}

std::string function_of(const CommandText& command) {
  std::string name = command.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

void add_zsh(const CommandText& command, const std::string& above, std::string& functions) {
  const std::string function = above.empty() ? "_llmlaunch" : above + "_" + function_of(command);
  std::string body = fmt::format("\n{}() {{\n", function);
  const bool below = !command.commands.empty();
  if (below) body += "  local curcontext=$curcontext state line\n  typeset -A opt_args\n";
  body += below ? "  _arguments -C -S \\\n" : "  _arguments -S \\\n";
  for (const auto& option : command.options) body += specs_of(option);
  if (below) {
    body += "    '1:command:->command' \\\n    '*::argument:->argument'\n  case $state in\n    command)\n";
    body += "      local -a commands=(\n";
    for (const auto& each : command.commands)
      body += fmt::format("        '{}:{}'\n", each.name, zsh_escaped(each.description));
    body += "      )\n      _describe command commands\n      ;;\n    argument)\n      case $line[1] in\n";
    for (const auto& each : command.commands)
      body += fmt::format("        {}) {}_{} ;;\n", each.name, function, function_of(each));
    body += "      esac\n      ;;\n  esac\n}\n";
  } else if (takes_program(command)) {
    body += "    '(-)1:program:_command_names -e' \\\n    '*::argument:_normal'\n}\n";
  } else if (!command.arguments.empty()) {
    body += fmt::format("    '1:argument:({})'\n}}\n", fmt::join(command.arguments, " "));
  } else {
    body += "    '*:hosts:_hosts'\n}\n";
  }
  functions += body;
  for (const auto& each : command.commands) add_zsh(each, function, functions);
}

}  // namespace

std::string zsh_completion(const CommandText& root) {
  std::string functions;
  add_zsh(root, "", functions);
  return "#compdef llmlaunch\n# zsh completion for llmlaunch; written by: llmlaunch docs completion zsh\n" + functions +
         "\nif [[ $funcstack[1] == _llmlaunch ]]; then\n  _llmlaunch \"$@\"\nelse\n  compdef _llmlaunch "
         "llmlaunch\nfi\n";
}

}  // namespace llmlaunch::cli
