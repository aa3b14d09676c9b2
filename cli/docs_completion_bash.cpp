// bash 4.4 or later, with or without the bash-completion package. The script knows the tree as three case lists: the
// words that may follow a command, the options that take a value, and how that value is completed.
#include <fmt/format.h>

#include "cli/docs_completion.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::string_view kBashHead = R"(# bash completion for llmlaunch; written by: llmlaunch docs completion bash
)";

// COMP_WORDS has "--color=al" as three words.
constexpr std::string_view kTail = R"bash(
_llmlaunch_reply() {
  mapfile -t COMPREPLY < <(compgen "$@" -- "$cur" 2>/dev/null)
}

_llmlaunch() {
  local cur=${COMP_WORDS[COMP_CWORD]} command=llmlaunch option= word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ -n $option ]]; then
      [[ $word == '=' ]] || option=
      continue
    fi
    if [[ $word == -?* && $word != -- ]]; then
      _llmlaunch_takes_value "$command" "$word" && option=$word
      continue
    fi
    if _llmlaunch_takes_program "$command"; then
      [[ $word == -- ]] && ((i++))
      if ((i < COMP_CWORD)) && declare -F _command_offset >/dev/null; then
        _command_offset "$i"
      elif ((i == COMP_CWORD)); then
        _llmlaunch_reply -A command
      else
        compopt -o default
      fi
      return
    fi
    _llmlaunch_is_command "$command $word" && command+=" $word"
  done
  if [[ -n $option ]]; then
    [[ $cur == '=' ]] && cur=
    _llmlaunch_value "$command" "$option"
    return
  fi
  if [[ $cur == -* ]]; then
    _llmlaunch_reply -W "$(_llmlaunch_options "$command")"
  elif _llmlaunch_takes_program "$command"; then
    _llmlaunch_reply -W "$(_llmlaunch_words "$command")" -A command -A file
    compopt -o filenames
  else
    _llmlaunch_reply -W "$(_llmlaunch_words "$command")"
  fi
}
complete -F _llmlaunch llmlaunch
)bash";

/// A command with the words that lead to it.
template <class Visit>
void each_command(const CommandText& command, const std::string& above, const Visit& visit) {
  const std::string full_name = above.empty() ? command.name : above + " " + command.name;
  visit(command, full_name);
  for (const auto& below : command.commands) each_command(below, full_name, visit);
}

std::string bash_action_of(const OptionText& option) {
  switch (option.kind) {
    case ValueKind::file: return "compopt -o filenames; _llmlaunch_reply -A file";
    case ValueKind::directory: return "compopt -o filenames; _llmlaunch_reply -A directory";
    case ValueKind::words: return fmt::format("_llmlaunch_reply -W '{}'", fmt::join(option.words, " "));
    case ValueKind::hosts: return "_llmlaunch_reply -A hostname";
    case ValueKind::user: return "_llmlaunch_reply -A user";
    case ValueKind::variable: return "compopt -o nospace; _llmlaunch_reply -A export";
    case ValueKind::signal: return "_llmlaunch_reply -A signal";
    case ValueKind::none:
    case ValueKind::any: break;
  }
  return "";
}

}  // namespace

std::string bash_completion(const CommandText& root) {
  std::string options, words, takes, values, programs, commands;
  each_command(root, "", [&](const CommandText& command, const std::string& full_name) {
    std::string names;
    for (const auto& option : command.options) {
      std::string patterns;
      for (const auto& name : option.names) {
        names += names.empty() ? name : " " + name;
        patterns += fmt::format("{}'{}:{}'", patterns.empty() ? "" : " | ", full_name, name);
      }
      if (option.value.empty()) continue;
      takes += fmt::format("    {}) return 0 ;;\n", patterns);
      if (const std::string action = bash_action_of(option); !action.empty())
        values += fmt::format("    {}) {} ;;\n", patterns, action);
    }
    options += fmt::format("    '{}') echo '{}' ;;\n", full_name, names);
    std::string below;
    for (const auto& each : command.commands) {
      below += below.empty() ? each.name : " " + each.name;
      commands += fmt::format("    '{} {}') return 0 ;;\n", full_name, each.name);
    }
    if (&command == &root) below += " help version";
    if (command.name == "run") below = "train";
    for (const auto& word : command.arguments) below += below.empty() ? word : " " + word;
    words += fmt::format("    '{}') echo '{}' ;;\n", full_name, below);
    if (takes_program(command)) programs += fmt::format("    '{}') return 0 ;;\n", full_name);
  });
  const auto function = [](std::string_view name, std::string_view subject, const std::string& cases,
                           std::string_view otherwise) {
    return fmt::format("\n_llmlaunch_{}() {{\n  case {} in\n{}  esac\n{}}}\n", name, subject, cases, otherwise);
  };
  std::string script(kBashHead);
  script += function("options", "$1", options, "");
  script += function("words", "$1", words, "");
  script += function("takes_value", "$1:$2", takes, "  return 1\n");
  script += function("takes_program", "$1", programs, "  return 1\n");
  script += function("is_command", "$1", commands, "  return 1\n");
  script += function("value", "$1:$2", values, "");
  script += kTail;
  return script;
}

}  // namespace llmlaunch::cli
