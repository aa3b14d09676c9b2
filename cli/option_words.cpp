// Word by word, from llmlaunch's options to the program. CLI11 reads only what is cut off here.
#include "cli/option_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "cli/foreign_options.hpp"
#include "cli/option_values.hpp"
#include "cli/run_options.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

/// "--log_dir=x" → "--log-dir=x". Values stay as they are.
std::string with_hyphens(const std::string& word) {
  if (!word.starts_with("--")) return word;
  std::string out = word;
  const auto end = out.begin() + static_cast<std::ptrdiff_t>(std::min(out.find('='), out.size()));
  std::replace(out.begin(), end, '_', '-');
  return out;
}

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

/// The option that a word names, and whether the next word is its value.
struct Found {
  const CLI::Option* option = nullptr;
  bool value_follows = false;
};
Result<Found> find_option(const CLI::App& app, const std::string& word, const std::string& command) {
  const bool is_long = word.starts_with("--");
  const auto equals = word.find('=');
  const std::string name = is_long ? word.substr(0, equals) : word.substr(0, 2);
  const CLI::Option* option = app.get_option_no_throw(name);
  if (!option) {
    const auto runs = app.get_subcommands([](const CLI::App* one) { return one->get_name() == "run"; });
    if (!runs.empty() && runs.front()->get_option_no_throw(name) != nullptr)
      return usage(fmt::format("option '{}' in front of the command", name),
                   fmt::format("options stand behind it: llmlaunch run {} …", name));
    if (app.get_name() == "run" && (name == "--detach" || name == "--background" || name == "--daemon"))
      return usage(fmt::format("there is no {}: a run ends with its llmlaunch", name),
                   "start it by systemd-run, with nohup or in tmux");
    if (const auto instead = app.get_name() == "run" ? instead_of_foreign(name) : ""; !instead.empty())
      return usage(fmt::format("option '{}' is another launcher's", name), fmt::format("here: {}", instead));
    auto known = long_names(app);
    const auto foreign = app.get_name() == "run" ? foreign_names() : std::vector<std::string>{};
    known.insert(known.end(), foreign.begin(), foreign.end());
    const auto meant = is_long ? nearest(name, known) : std::string_view{};
    return usage(fmt::format("unknown option '{}'", name), meant.empty()
                                                               ? fmt::format("{} --help lists the options", command)
                                                               : fmt::format("did you mean '{}'?", meant));
  }
  const bool takes_value = option->get_items_expected_max() > 0;
  const bool inside = is_long ? equals != word.npos : word.size() > 2;
  if (is_long && inside && !takes_value)
    return usage(fmt::format("option '{}' takes no value", name), lists_options(command));
  return Found{option, takes_value && !inside};
}

const CLI::App* subcommand(const CLI::App& app, const std::string& name) {
  const auto found = app.get_subcommands([&name](const CLI::App* one) { return one->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

/// What people look for who come from a scheduler, and is not there; empty: something else.
std::string instead_of_command(const std::string& word) {
  if (word == "attach" || word == "logs") return "a run shows its output itself, and keeps it below its log_dir";
  if (word == "status" || word == "ps" || word == "jobs" || word == "list")
    return "what the ranks of a running job wait for: llmlaunch store list; how one has ended: job.json in its run "
           "directory";
  if (word == "stop" || word == "kill" || word == "cancel")
    return "a run is stopped by Ctrl-C, or by SIGTERM to its llmlaunch (pgrep -x llmlaunch)";
  return {};
}

/// A word where a command is expected, as CLI11 is to read it.
Result<std::string> command_word(const CLI::App& app, const std::string& word) {
  if (subcommand(app, word) != nullptr) return word;
  if (word == "help" || word == "version") return "--" + word;
  if (word == "launch") return std::string("run");  // accelerate's
  constexpr std::array<std::string_view, 9> kCommands{"run",  "exec",   "hosts", "env",    "store",
                                                      "docs", "config", "help",  "version"};
  if (const auto instead = instead_of_command(word); !instead.empty())
    return usage(fmt::format("there is no command '{}'", word), instead);
  const auto meant = nearest(word, kCommands);
  return usage(fmt::format("unknown command '{}'", word),
               meant.empty() ? fmt::format("a program is started by: llmlaunch run {}",
                                           word.empty() || word.front() == '-' ? "PROGRAM" : word)
                             : fmt::format("did you mean '{}'?", meant));
}

/// The same for an option of accelerate or torchrun.
Result<void> take_foreign(const std::string& name, const std::vector<std::string>& words, std::size_t& i, Cut& parts) {
  const std::string& typed = words[i];
  const bool is_long = typed.starts_with("--");
  const auto equals = is_long ? typed.find('=') : typed.npos;
  ForeignUse use{is_long ? typed.substr(0, equals) : typed.substr(0, 2), name, ""};
  const auto twice = [&](const ForeignUse& other) { return other.name == name; };
  if (std::any_of(parts.foreign.begin(), parts.foreign.end(), twice))
    return usage(fmt::format("option '{}' is given twice", use.option), kListsRunOptions);
  const bool takes_value = foreign_kind(name).takes_value;
  if (equals != typed.npos) {
    if (!takes_value) return usage(fmt::format("option '{}' takes no value", use.option), kListsRunOptions);
    use.value = typed.substr(equals + 1);
  } else if (!is_long && typed.size() > 2) {
    use.value = typed.substr(2);
  } else if (takes_value) {
    if (i + 1 == words.size()) return usage(fmt::format("option '{}' needs a value", use.option), kListsRunOptions);
    use.value = words[++i];
  }
  parts.foreign.push_back(std::move(use));
  return ok;
}

/// One option, `words[i]`, and the value that it has in the same or the next word; `i` stays at the last word taken.
Result<void> take_option(const CLI::App& app, const std::string& command, const std::vector<std::string>& words,
                         std::size_t& i, Cut& parts) {
  std::string word = with_hyphens(words[i]);
  if (app.get_name() == "run") {
    const std::size_t size = word.starts_with("--") ? word.find('=') : 2;
    const std::string name(own_name(std::string_view(word).substr(0, size)));
    if (!app.get_option_no_throw(name) && foreign_kind(name).known) return take_foreign(name, words, i, parts);
    if (word.starts_with("--")) word = name + (size == word.npos ? "" : word.substr(size));
  }
  const auto found = find_option(app, word, command);
  if (!found) return found.error();
  const auto equals = word.starts_with("--") ? word.find('=') : word.npos;
  const std::string name = word.substr(0, equals);
  const bool takes_one = found->option->get_items_expected_max() == 1;
  if (takes_one && std::find(parts.seen.begin(), parts.seen.end(), found->option) != parts.seen.end()) {
    return usage(fmt::format("option '{}' is given twice", name), lists_options(command));
  }
  parts.seen.push_back(found->option);
  parts.own.push_back(name);
  if (equals != word.npos) {
    parts.own.push_back(word.substr(equals + 1));  // apart: to CLI11 "--x=" would be "--x" without a value
  } else if (found->value_follows) {
    if (i + 1 == words.size()) return usage(fmt::format("option '{}' needs a value", name), lists_options(command));
    parts.own.push_back(words[++i]);
  }
  return ok;
}

}  // namespace

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

Result<Cut> cut_words(const CLI::App& top, const std::vector<const CLI::App*>& between,
                      const std::vector<std::string>& words) {
  Cut parts;
  const CLI::App* app = &top;
  const auto takes_words = [&between](const CLI::App* one) {
    return one != nullptr && std::find(between.begin(), between.end(), one) != between.end();
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool in_command = app != &top;
    if (words[i] == "--" && in_command) {
      parts.program.insert(parts.program.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      return parts;
    }
    const bool is_option = words[i].size() > 1 && words[i].front() == '-' && words[i] != "--";
    // No option of ours begins with a digit: llmlaunch store add JOB KEY -1
    const bool is_number = is_option && takes_words(app->get_parent()) && words[i][1] >= '0' && words[i][1] <= '9';
    if (is_option && !is_number) {
      if (auto taken = take_option(*app, full_name(*app), words, i, parts); !taken) return taken.error();
      continue;
    }
    if (const CLI::App* below = in_command ? subcommand(*app, words[i]) : nullptr) {
      app = below;
      parts.own.push_back(words[i]);
      continue;
    }
    if (takes_words(app) || takes_words(app->get_parent())) {
      parts.program.push_back(words[i]);
      continue;
    }
    if (in_command) {
      parts.program.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      return parts;
    }
    auto command = command_word(top, words[i]);
    if (!command) return command.error();
    if (const CLI::App* found = subcommand(top, *command)) app = found;
    parts.own.push_back(std::move(*command));
  }
  return parts;
}

}  // namespace llmlaunch::cli
