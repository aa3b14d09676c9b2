// Prints what docs_man.cpp and docs_completion*.cpp make. A page has the date of SOURCE_DATE_EPOCH where that is set,
// so that a package built twice has the same bytes.
#include "cli/docs_pages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string_view>

#include "cli/command_tree.hpp"
#include "cli/docs_completion.hpp"
#include "cli/docs_man.hpp"
#include "cli/option_values.hpp"
#include "cli/report.hpp"
#include "rendezvous/base/nearest.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {
namespace {

/// The argument is one of some words, which stand in the usage.
class WordsHelp final : public CLI::Formatter {
 public:
  explicit WordsHelp(bool shells) : shells_(shells) {}
  std::string make_usage(const CLI::App* app, std::string) const override {
    if (shells_) return fmt::format("Usage: llmlaunch docs {} {}\n", app->get_name(), fmt::join(kShells, "|"));
    std::vector<std::string> names;
    for (const CLI::App* each : app->get_parent()->get_parent()->get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(each->get_name());
    return fmt::format("Usage: llmlaunch docs {} [{}]\n", app->get_name(), fmt::join(names, "|"));
  }

 private:
  bool shells_;
};

constexpr const char* kManFooter = "Without COMMAND: llmlaunch(1). Read one at once: llmlaunch docs man run | man -l -";
constexpr const char* kCompletionFooter =
    "bash: llmlaunch docs completion bash > ~/.local/share/bash-completion/completions/llmlaunch\n"
    "zsh:  llmlaunch docs completion zsh > DIR/_llmlaunch, where DIR is one of $fpath\n"
    "fish: llmlaunch docs completion fish > ~/.config/fish/completions/llmlaunch.fish";

Result<std::string> page_date() {
  std::time_t seconds = std::time(nullptr);
  if (const char* given = std::getenv("SOURCE_DATE_EPOCH"); given != nullptr && *given != '\0') {
    const std::string_view text(given);
    seconds = parse_whole<std::time_t>(text).value_or(-1);
    if (seconds < 0) return usage(fmt::format("SOURCE_DATE_EPOCH must be a number of seconds, not '{}'", text), "");
  }
  std::tm parts{};
  if (!::gmtime_r(&seconds, &parts))
    return usage(fmt::format("SOURCE_DATE_EPOCH={} is no time of a calendar", seconds), "");
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

Result<std::string> text_of(const DocsPagesOptions& options, const CommandText& root) {
  if (options.kind == DocsPagesOptions::Kind::completion) {
    if (auto script = completion_script(root, options.subject)) return *std::move(script);
    const auto meant = nearest(options.subject, kShells);
    return usage(fmt::format("docs completion: '{}' is no shell that is known here", options.subject),
                 meant.empty() ? fmt::format("it is one of {}", fmt::join(kShells, ", "))
                               : fmt::format("did you mean '{}'?", meant));
  }
  const auto date = page_date();
  if (!date) return date.error();
  if (auto page = manual_page(root, options.subject, *date)) return *std::move(page);
  std::vector<std::string> names;
  for (const auto& each : root.commands) names.push_back(each.name);
  const auto meant = nearest(options.subject, names);
  return usage(fmt::format("docs man: '{}' is no command of llmlaunch", options.subject),
               meant.empty() ? fmt::format("it is one of {}", fmt::join(names, ", "))
                             : fmt::format("did you mean '{}'?", meant));
}

}  // namespace

void DocsPagesParser::add_to(CLI::App& docs) {
  man_ = docs.add_subcommand("man", "A manual page, as roff");
  man_->formatter(std::make_shared<WordsHelp>(false));
  man_->set_help_flag("-h,--help", "Print this help and exit");
  man_->footer(kManFooter);
  completion_ = docs.add_subcommand("completion", "A script that completes words of llmlaunch in a shell");
  completion_->formatter(std::make_shared<WordsHelp>(true));
  completion_->set_help_flag("-h,--help", "Print this help and exit");
  completion_->footer(kCompletionFooter);
}

bool DocsPagesParser::parsed() const {
  return man_->parsed() || completion_->parsed();
}

Result<Options> DocsPagesParser::options(std::vector<std::string> words) const {
  const CLI::App& command = completion_->parsed() ? *completion_ : *man_;
  if (words.size() > 1)
    return usage(fmt::format("docs {}: '{}' is one word too many", command.get_name(), words[1]),
                 fmt::format("llmlaunch docs {} --help shows how it is called", command.get_name()));
  if (words.empty() && &command == completion_)
    return usage("docs completion: no shell is named", fmt::format("it is one of {}", fmt::join(kShells, ", ")));
  Options options;
  options.action = Options::Action::docs_pages;
  options.docs_pages.kind =
      &command == completion_ ? DocsPagesOptions::Kind::completion : DocsPagesOptions::Kind::manual;
  if (!words.empty()) options.docs_pages.subject = std::move(words.front());
  return options;
}

int docs_pages_command(const DocsPagesOptions& options) {
  CommandText root;
  visit_command_tree([&root](const CLI::App& app) { root = describe_commands(app); });
  const auto text = text_of(options, root);
  const auto fail = [](const Error& error) {
    report_error(error);
    return number(exit_status_of(error));
  };
  if (!text) return fail(text.error());
  if (std::fwrite(text->data(), 1, text->size(), stdout) == text->size() && std::fflush(stdout) == 0)
    return number(ExitStatus::done);
  return fail(system_error(errno, "writing to stdout"));
}

}  // namespace llmlaunch::cli
