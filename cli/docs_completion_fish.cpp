// fish 3. __llmlaunch_at COMMAND is true while the words before the cursor have led to that command and no program of
// the user's has begun.
#include <fmt/format.h>

#include "cli/docs_completion.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::string_view kFishHead = R"(# fish completion for llmlaunch; written by: llmlaunch docs completion fish

function __llmlaunch_at
    set -l words (commandline -opc)
    set -l command llmlaunch
    set -l value 0
    for word in $words[2..-1]
        if test $value = 1
            set value 0
        else if string match -q -- '-?*' $word
            if contains -- "$command:$word" $__llmlaunch_takes_value
                set value 1
            end
        else if contains -- "$command $word" $__llmlaunch_commands
            set command "$command $word"
        else if contains -- "$command" $__llmlaunch_takes_program
            set command "$command PROGRAM"
            break
        end
    end
    test "$command" = "$argv"
end

complete -c llmlaunch -e
complete -c llmlaunch -f
)";

std::string fish_word(std::string_view text) {
  std::string out = "'";
  for (const char letter : text) {
    if (letter == '\'' || letter == '\\') out += '\\';
    out += letter;
  }
  return out + "'";
}

std::string fish_value(const OptionText& option) {
  switch (option.kind) {
    case ValueKind::none: return "";
    case ValueKind::any: return " -x";
    case ValueKind::file: return " -r -F";
    case ValueKind::directory: return " -x -a '(__fish_complete_directories)'";
    case ValueKind::words: return " -x -a " + fish_word(fmt::format("{}", fmt::join(option.words, " ")));
    case ValueKind::hosts: return " -x -a '(__fish_print_hostnames)'";
    case ValueKind::user: return " -x -a '(__fish_complete_users)'";
    case ValueKind::variable: return " -x -a '(set -xn)'";
    case ValueKind::signal: return " -x -a 'HUP INT USR1 USR2 TERM WINCH'";
  }
  return "";
}

struct Lists {
  std::string takes_value, takes_program, commands, completions;
};

void add_fish(const CommandText& command, const std::string& above, Lists& lists) {
  const std::string full_name = above.empty() ? command.name : above + " " + command.name;
  const std::string here = fmt::format("complete -c llmlaunch -n '__llmlaunch_at {}'", full_name);
  for (const auto& option : command.options) {
    std::string names;
    for (const auto& name : option.names) {
      const bool is_long = name.starts_with("--");
      names += fmt::format(" -{} {}", is_long ? 'l' : 's', name.substr(is_long ? 2 : 1));
      if (!option.value.empty()) lists.takes_value += fmt::format(" '{}:{}'", full_name, name);
    }
    lists.completions += fmt::format("{}{}{} -d {}\n", here, names, fish_value(option), fish_word(option.text));
  }
  for (const auto& each : command.commands) {
    lists.completions += fmt::format("{} -a {} -d {}\n", here, each.name, fish_word(each.description));
    lists.commands += fmt::format(" '{} {}'", full_name, each.name);
  }
  for (const auto& word : command.arguments) lists.completions += fmt::format("{} -a {}\n", here, word);
  if (takes_program(command)) {
    lists.takes_program += fmt::format(" '{}'", full_name);
    if (command.name == "run") lists.completions += here + " -a train -d 'The built-in trainer'\n";
    lists.completions += here + " -a '(__fish_complete_command)'\n";
    lists.completions += fmt::format("complete -c llmlaunch -n '__llmlaunch_at {} PROGRAM' -F\n", full_name);
  }
  for (const auto& each : command.commands) add_fish(each, full_name, lists);
}

}  // namespace

std::string fish_completion(const CommandText& root) {
  Lists lists;
  add_fish(root, "", lists);
  std::string script(kFishHead);
  script += fmt::format("set -g __llmlaunch_takes_value{}\n", lists.takes_value);
  script += fmt::format("set -g __llmlaunch_takes_program{}\n", lists.takes_program);
  script += fmt::format("set -g __llmlaunch_commands{}\n\n", lists.commands);
  script += lists.completions;
  script += "complete -c llmlaunch -n '__llmlaunch_at llmlaunch' -a 'help version'\n";
  return script;
}

}  // namespace llmlaunch::cli
