// CLI11's tree → text. The only reader of parsers beside options.cpp.
#include "cli/command_tree.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/examples.hpp"
#include "launcher/hostfile.hpp"

namespace llmlaunch::cli {
namespace {

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(at, start), text.size());
    parts.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

bool named(const OptionText& option, std::string_view name) {
  return std::find(option.names.begin(), option.names.end(), name) != option.names.end();
}

void set_kind(OptionText& option) {
  if (option.value.empty()) return;
  option.kind = ValueKind::any;
  if (option.value == "FILE") option.kind = ValueKind::file;
  if (option.value == "DIR") option.kind = ValueKind::directory;
  if (option.value == "NAME[=VALUE]") option.kind = ValueKind::variable;
  if (option.value == "NAME[,NAME]") option.kind = ValueKind::signal;
  if (named(option, "--user")) option.kind = ValueKind::user;
  if (named(option, "--hosts") || named(option, "--exclude")) option.kind = ValueKind::hosts;
  if (option.value.find('|') != option.value.npos) option.words = split(option.value, '|');
  if (named(option, "--from"))
    option.words.assign(launcher::kHostfileFormats.begin(), launcher::kHostfileFormats.end());
  if (!option.words.empty()) option.kind = ValueKind::words;
}

OptionText describe_option(const CLI::Option& option) {
  OptionText text;
  for (const auto& name : option.get_snames()) text.names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) text.names.push_back("--" + name);
  const int most = option.get_items_expected_max();
  if (most > 0) text.value = option.get_type_name();
  text.repeats = most > 1;
  text.text = option.get_description();
  text.group = option.get_group();
  set_kind(text);
  return text;
}

/// The formatter of each command writes its usage, with "Usage: " or blanks in front of each line.
std::vector<std::string> usage_of(const CLI::App& app, const std::string& full_name) {
  std::vector<std::string> usage;
  const auto formatter = std::dynamic_pointer_cast<CLI::Formatter>(app.get_formatter());
  if (!formatter) return usage;
  const std::string made = formatter->make_usage(&app, full_name);
  for (std::string_view line : lines_of(made)) {
    if (line.starts_with("Usage:")) line.remove_prefix(6);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (!line.empty()) usage.emplace_back(line);
  }
  return usage;
}

/// "llmlaunch docs man [run|exec]" → "run", "exec".
std::vector<std::string> arguments_of(const std::vector<std::string>& usage) {
  if (usage.empty()) return {};
  std::string_view last = std::string_view(usage.front()).substr(usage.front().rfind(' ') + 1);
  if (last.find('|') == last.npos) return {};
  if (last.starts_with('[') && last.ends_with(']')) last = last.substr(1, last.size() - 2);
  return split(last, '|');
}

CommandText describe(const CLI::App& app, const std::string& above) {
  CommandText command;
  command.name = app.get_name();
  const std::string full_name = above.empty() ? command.name : above + " " + command.name;
  command.description = app.get_description();
  command.usage = usage_of(app, full_name);
  command.arguments = arguments_of(command.usage);
  for (const CLI::Option* option : app.get_options())
    if (!option->get_group().empty()) command.options.push_back(describe_option(*option));
  command.notes = app.get_footer();
  if (const auto at = command.notes.find(kExamplesHeading); at != command.notes.npos) {
    for (std::string_view line : lines_of(std::string_view(command.notes).substr(at + kExamplesHeading.size()))) {
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      if (!line.empty()) command.examples.append(line).append("\n");
    }
    command.notes.erase(at);
  }
  while (command.notes.ends_with('\n')) command.notes.pop_back();
  for (const CLI::App* each : app.get_subcommands([](const CLI::App*) { return true; }))
    command.commands.push_back(describe(*each, full_name));
  return command;
}

}  // namespace

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return lines;
}

CommandText describe_commands(const CLI::App& app) {
  return describe(app, "");
}

}  // namespace llmlaunch::cli
