// Manual pages. What is not an option stands in the tables below; README.md tells the same at length.
#include "cli/docs_man.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace llmlaunch::cli {
namespace {

struct Entry {
  std::string_view term;
  std::string_view text;
};

constexpr std::array<Entry, 10> kStatus{{
    {"0", "All ranks, or all commands, ended with 0."},
    {"1 ... 255",
     "The status of the first rank that failed; 128 + n when signal n ended it. For exec: the highest status. For "
     "store: 1 when a key is "
     "missing or the store does not take what was given."},
    {"64", "The command line is wrong."},
    {"69",
     "A host or the rendezvous is unavailable: not reachable, key refused, no working directory, connection lost. For "
     "store: no such running job."},
    {"70", "A defect of llmlaunch itself, or a part of it is not installed."},
    {"74", "The run directory cannot be made, or lacks output although all ranks ended well."},
    {"78", "The configuration is wrong."},
    {"124", "A time limit passed."},
    {"126, 127", "The program may not be executed, or does not exist."},
    {"130, 143, 129, 131",
     "Ended by Ctrl-C, SIGTERM, SIGHUP, SIGQUIT. 130 is what a shell says: it ends by SIGINT itself, so that Ctrl-C "
     "also ends a loop around it."},
}};

constexpr std::array<Entry, 5> kEnvironment{{
    {"LLMLAUNCH_LIBEXEC",
     "The directory that has llmlaunch-agent and llmlaunch-train, where they are not beside llmlaunch "
     "nor in ../libexec/llmlaunch."},
    {"LLMLAUNCH_SSH_PORT, LLMLAUNCH_NUM_PROCESSES, …",
     "A setting over the configuration file: its key without \"llmlaunch.\", in capitals, with _ for each dot. --set "
     "wins "
     "over it. An empty variable is none."},
    {"NO_COLOR", "When set and not empty: no colours, unless --color always asks for them."},
    {"TERM", "On a terminal named \"dumb\", and without a name, there are no colours and no line that is drawn again."},
    {"WCOLL", "A file of hosts for exec and hosts, where no host is named in another way."},
}};

constexpr std::array<Entry, 3> kFiles{{
    {"$HF_HOME/accelerate/default_config.yaml",
     "What run reads without --config, when it is there; HF_HOME is ~/.cache/huggingface by default."},
    {"~/.ssh/config, ~/.ssh/known_hosts", "Read as by ssh(1)."},
    {"llmlaunch-logs/JOB/",
     "The run directory: job.json, merged.log, and rank-00000.out and .err of each rank; while "
     "the job runs, rendezvous.json, by which llmlaunch store gets in."},
}};

/// Code points of UTF-8 that was written in this program, so that it is never broken.
std::string escaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\\') {
      out += "\\e";
    } else if (byte == '-') {
      out += "\\-";
    } else if (byte == '\'') {
      out += "\\(aq";
    } else if (byte == '`') {
      out += "\\(ga";
    } else if (byte == '^') {
      out += "\\(ha";
    } else if (byte == '~') {
      out += "\\(ti";
    } else if (byte >= 0xc0) {
      const int more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      std::uint32_t point = byte & (0x3fU >> more);
      for (int k = 0; k < more && i + 1 < text.size(); ++k)
        point = point << 6 | (static_cast<unsigned char>(text[++i]) & 0x3fU);
      out += fmt::format("\\[u{:04X}]", point);
    } else {
      out += text[i];
    }
  }
  return out;
}

/// A line of text that begins no request.
std::string text_line(std::string_view text) {
  const std::string line = escaped(text);
  return line.starts_with('.') ? "\\&" + line + '\n' : line + '\n';
}

std::string paragraph(std::string_view text) {
  std::string out;
  for (const auto line : lines_of(text)) out += line.empty() ? ".PP\n" : text_line(line);
  return out;
}

template <class Entries>
std::string tagged(std::string_view heading, const Entries& entries) {
  std::string out = fmt::format(".SH {}\n", heading);
  for (const Entry& entry : entries) out += fmt::format(".TP\n.B {}\n{}", escaped(entry.term), text_line(entry.text));
  return out;
}

std::string verbatim(std::string_view text) {
  std::string out = ".nf\n.RS 4\n";
  for (const auto line : lines_of(text)) out += text_line(line);
  return out + ".RE\n.fi\n";
}

std::string option_entry(const OptionText& option) {
  std::vector<std::string> names;
  for (const auto& name : option.names) names.push_back(fmt::format("\\fB{}\\fR", escaped(name)));
  std::string out = fmt::format(".TP\n{}", fmt::join(names, ", "));
  if (!option.value.empty()) out += fmt::format(" \\fI{}\\fR", escaped(option.value));
  if (option.repeats) out += " \\&...";
  std::string text = option.text;
  if (!text.ends_with('.')) text += '.';
  if (option.repeats) text += " May be repeated.";
  return out + '\n' + text_line(text);
}

std::string options_section(const CommandText& command) {
  std::vector<std::string> groups;
  for (const auto& option : command.options)
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  std::string out = ".SH OPTIONS\n";
  for (const auto& group : groups) {
    if (groups.size() > 1) out += fmt::format(".SS {}\n", escaped(group));
    for (const auto& option : command.options)
      if (option.group == group) out += option_entry(option);
  }
  return out;
}

std::string upper(std::string text) {
  for (char& letter : text)
    if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
  return text;
}

std::string commands_section(const CommandText& command, std::string_view page) {
  if (command.commands.empty()) return "";
  std::string out = ".SH COMMANDS\n";
  for (const auto& each : command.commands) {
    out += fmt::format(".TP\n.B {}\n{}", escaped(each.name), text_line(each.description + "."));
    if (each.options.size() > 1 && page != "llmlaunch")
      for (const auto& option : each.options) out += ".RS\n" + option_entry(option) + ".RE\n";
  }
  return out;
}

std::string see_also(const CommandText& root, std::string_view page) {
  std::string out = ".SH SEE ALSO\n";
  for (const auto& name : manual_page_names(root))
    if (name != page) out += fmt::format(".BR {} (1),\n", escaped(name));
  return out + ".BR ssh (1),\n.BR ssh_config (5)\n";
}

}  // namespace

std::vector<std::string> manual_page_names(const CommandText& root) {
  std::vector<std::string> names{root.name};
  for (const auto& command : root.commands) names.push_back(root.name + "-" + command.name);
  return names;
}

std::optional<std::string> manual_page(const CommandText& root, std::string_view command, std::string_view date) {
  const CommandText* text = &root;
  std::string page = root.name;
  if (!command.empty() && command != root.name) {
    const auto found = std::find_if(root.commands.begin(), root.commands.end(),
                                    [&](const CommandText& one) { return one.name == command; });
    if (found == root.commands.end()) return std::nullopt;
    text = &*found;
    page += "-" + found->name;
  }
  std::string out =
      fmt::format(".\\\" Written by llmlaunch docs man; do not edit.\n.TH {} 1 {} \"llmlaunch {}\" \"User Commands\"\n",
                  escaped(upper(page)), date, LLMLAUNCH_VERSION);
  std::string summary = text->description;
  if (summary.ends_with('.')) summary.pop_back();
  out += fmt::format(".SH NAME\n{} \\- {}\n.SH SYNOPSIS\n", escaped(page), escaped(summary));
  for (std::size_t i = 0; i < text->usage.size(); ++i)
    out += fmt::format("{}.B {}\n", i == 0 ? "" : ".br\n", escaped(text->usage[i]));
  out += ".SH DESCRIPTION\n" + text_line(summary + ".");
  if (!text->notes.empty()) out += ".PP\n" + paragraph(text->notes);
  out += commands_section(*text, page);
  if (!text->options.empty()) out += options_section(*text);
  out += tagged("EXIT STATUS", kStatus) + tagged("ENVIRONMENT", kEnvironment) + tagged("FILES", kFiles);
  if (!text->examples.empty()) out += ".SH EXAMPLES\n" + verbatim(text->examples);
  return out + see_also(root, page);
}

}  // namespace llmlaunch::cli
