// Manual pages and completion: made from the parser's own tree, so that each has every option of every command.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "cli/command_tree.hpp"
#include "cli/docs_completion.hpp"
#include "cli/docs_man.hpp"
#include "cli/docs_pages.hpp"
#include "tests/support/catch.hpp"

namespace cli_docs_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using Words = std::vector<std::string>;

namespace {

CommandText tree() {
  CommandText root;
  visit_command_tree([&root](const CLI::App& app) { root = describe_commands(app); });
  return root;
}

/// Every option's names, by the parser itself and not by describe_commands.
void each_option(const CLI::App& app, const std::function<void(const CLI::App&, const CLI::Option&)>& visit) {
  for (const CLI::Option* option : app.get_options()) visit(app, *option);
  for (const CLI::App* below : app.get_subcommands([](const CLI::App*) { return true; })) each_option(*below, visit);
}

std::string page(const std::string& command) {
  const auto text = manual_page(tree(), command, "2026-11-24");
  REQUIRE(text);
  return *text;
}

std::string with_roff_hyphens(std::string text) {
  for (std::size_t at = 0; (at = text.find('-', at)) != text.npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string message(const Words& words) {
  const auto options = parse_options(words);
  if (options) return "no error";
  CHECK(options.error().code == Errc::usage);
  return to_string(options.error());
}

}  // namespace

TEST_CASE("every option of every command is in a manual page and in each completion") {
  const CommandText root = tree();
  std::string pages;
  for (const auto& command : root.commands) pages += page(command.name);
  pages += page("");
  std::size_t seen = 0;
  visit_command_tree([&](const CLI::App& app) {
    each_option(app, [&](const CLI::App& command, const CLI::Option& option) {
      INFO(command.get_name() << " " << option.get_name());
      for (const auto& name : option.get_lnames()) {
        ++seen;
        CHECK(pages.find("\\fB" + with_roff_hyphens("--" + name) + "\\fR") != pages.npos);
        CHECK(bash_completion(root).find("--" + name) != std::string::npos);
        CHECK(zsh_completion(root).find(")--" + name) + zsh_completion(root).find("*--" + name) !=
              2 * std::string::npos);
        CHECK(fish_completion(root).find(" -l " + name + " ") != std::string::npos);
      }
    });
  });
  CHECK(seen > 60);
}

TEST_CASE("a manual page is ASCII, and only its own requests begin a line with a dot") {
  const std::set<std::string_view> known{".TH", ".SH", ".SS", ".TP", ".PP", ".B",
                                         ".BR", ".br", ".nf", ".fi", ".RS", ".RE"};
  for (const auto& command : tree().commands) {
    const std::string text = page(command.name);
    CHECK(std::all_of(text.begin(), text.end(), [](char one) { return one == '\n' || (one >= ' ' && one <= '~'); }));
    for (const auto line : lines_of(text)) {
      INFO(line);
      CHECK_FALSE(line.empty());
      CHECK_FALSE(line.starts_with('\''));
      if (line.starts_with('.') && !line.starts_with(".\\\"")) CHECK(known.count(line.substr(0, line.find(' '))) == 1);
    }
  }
}

TEST_CASE("a manual page has its title, its usage, the options by subject and the examples") {
  const std::string text = page("run");
  CHECK(text.find(".TH LLMLAUNCH\\-RUN 1 2026-11-24 \"llmlaunch ") != text.npos);
  CHECK(text.find(".B llmlaunch run [OPTIONS] PROGRAM [ARGS\\[u2026]]\n") != text.npos);
  CHECK(text.find(".SS Configuration and hosts\n.TP\n\\fB\\-c\\fR, \\fB\\-\\-config\\fR \\fIFILE\\fR\n") != text.npos);
  CHECK(text.find(".SS Other options") == text.npos);
  CHECK(text.find(".SH EXAMPLES\n.nf\n.RS 4\nllmlaunch run train.py ") != text.npos);
  CHECK(text.find(".BR llmlaunch\\-exec (1),\n") != text.npos);
  CHECK_FALSE(manual_page(tree(), "rnu", "2026-11-24"));
}

TEST_CASE("what a value may be is known from its option") {
  const CommandText root = tree();
  const auto kind_of = [&](const std::string& command, const std::string& name) {
    for (const auto& one : root.commands)
      if (one.name == command)
        for (const auto& option : one.options)
          if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) return option.kind;
    return ValueKind::none;
  };
  CHECK(kind_of("run", "--config") == ValueKind::file);
  CHECK(kind_of("run", "--log-dir") == ValueKind::directory);
  CHECK(kind_of("run", "--color") == ValueKind::words);
  CHECK(kind_of("run", "--dry-run") == ValueKind::none);
  CHECK(kind_of("run", "--timeout") == ValueKind::any);
  CHECK(kind_of("exec", "-w") == ValueKind::hosts);
  CHECK(kind_of("exec", "-l") == ValueKind::user);
  CHECK(kind_of("hosts", "--from") == ValueKind::words);
}

TEST_CASE("docs man and docs completion are read, and a wrong word is answered") {
  const auto man = parse_options({"docs", "man", "run"});
  REQUIRE(man);
  CHECK(man->action == Options::Action::docs_pages);
  CHECK(man->docs_pages.kind == DocsPagesOptions::Kind::manual);
  CHECK(man->docs_pages.subject == "run");
  const auto bash = parse_options({"docs", "completion", "bash"});
  REQUIRE(bash);
  CHECK(bash->docs_pages.kind == DocsPagesOptions::Kind::completion);
  CHECK(bash->docs_pages.subject == "bash");

  CHECK(message({"docs"}) == "docs: nothing is named\n   hint: llmlaunch docs --help lists what there is");
  CHECK(message({"docs", "mn"}) == "docs: 'mn' is not known\n   hint: llmlaunch docs --help lists what there is");
  CHECK(message({"docs", "completion"}) == "docs completion: no shell is named\n   hint: it is one of bash, zsh, fish");
  CHECK(message({"docs", "man", "run", "exec"}) ==
        "docs man: 'exec' is one word too many\n   hint: llmlaunch docs man --help shows how it is called");
  CHECK(message({"docs", "man", "--colour"}) ==
        "unknown option '--colour'\n   hint: llmlaunch docs man --help lists the options");
  CHECK(message({"dosc"}) == "unknown command 'dosc'\n   hint: did you mean 'docs'?");

  const auto docs = parse_options({"docs", "--help"});
  REQUIRE(docs);
  CHECK(docs->text.find("Usage: llmlaunch docs [OPTIONS] [SUBCOMMAND]\n") != std::string::npos);
  const auto help = parse_options({"docs", "completion", "--help"});
  REQUIRE(help);
  CHECK(help->action == Options::Action::print);
  CHECK(help->text.find("Usage: llmlaunch docs completion bash|zsh|fish\n") != std::string::npos);
}

}  // namespace cli_docs_test
