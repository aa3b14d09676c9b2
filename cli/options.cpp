// All commands and their options. CLI11 reads llmlaunch's own words only: option_words.cpp cuts the line first.
#include "cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/command_tree.hpp"
#include "cli/config_options.hpp"
#include "cli/docs_pages.hpp"
#include "cli/docs_reference.hpp"
#include "cli/env_options.hpp"
#include "cli/examples.hpp"
#include "cli/exec_options.hpp"
#include "cli/foreign_flags.hpp"
#include "cli/hosts_options.hpp"
#include "cli/option_values.hpp"
#include "cli/option_words.hpp"
#include "cli/run_options.hpp"
#include "cli/store_options.hpp"
#include "cli/wizard_options.hpp"

namespace llmlaunch::cli {
namespace {

/// The option parser and what it fills.
struct Parser {
  CLI::App app{"Starts a training job on any number of machines over ssh."};
  RunParser run;
  ExecParser exec;
  HostsParser hosts;
  CLI::App* docs = nullptr;
  DocsPagesParser docs_pages;
  DocsReferenceParser docs_reference;
  CLI::App* config = nullptr;
  ConfigParser config_words;
  EnvParser env;
  StoreParser store;
  WizardParser wizard;
  CLI::App* version = nullptr;

  Parser();
  Parser(const Parser&) = delete;
};

Parser::Parser() {
  app.name("llmlaunch");
  app.set_version_flag("-V,--version", "llmlaunch " LLMLAUNCH_VERSION);
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.footer("llmlaunch COMMAND --help tells more about a command.");
  run.add_to(app);
  exec.add_to(app);
  hosts.add_to(app);
  env.add_to(app);
  store.add_to(app);
  docs = app.add_subcommand("docs", "Manual pages, shell completion, and the reference of configuration keys");
  docs->set_help_flag("-h,--help", "Print this help and exit");
  docs_pages.add_to(*docs);
  docs_reference.add_to(*docs);
  config = app.add_subcommand("config", "Write a configuration by questions and a look at the hosts; check one");
  wizard.add_to(*config);
  config_words.add_to(*config);
  version = app.add_subcommand("version", "Tell the versions of llmlaunch, its protocols and libraries");
  version->set_help_flag("-h,--help", "Print this help and exit");
  for (CLI::App* command : {&app, run.app, exec.app, hosts.app, store.app}) add_examples(*command);
}

}  // namespace

void visit_command_tree(const std::function<void(const CLI::App&)>& visit) {
  const Parser parser;
  visit(parser.app);
}

Result<Options> parse_options(const std::vector<std::string>& words) {
  Parser parser;
  Options options;
  if (words.empty()) {
    options.action = Options::Action::print_usage;
    options.text = parser.app.help();
    return options;
  }
  auto parts = cut_words(parser.app, {parser.hosts.app, parser.config, parser.store.app}, words);
  if (!parts) return parts.error();
  try {
    parser.app.parse(
        std::vector<std::string>(parts->own.rbegin(), parts->own.rend()));  // CLI11 wants the last word first
  } catch (const CLI::CallForHelp&) {
    options.action = Options::Action::print;
    CLI::App* named = &parser.app;
    while (!named->get_subcommands().empty()) named = named->get_subcommands().front();
    options.text = named->help(named == &parser.app ? "" : full_name(*named->get_parent()));
    return options;
  } catch (const CLI::CallForVersion&) {
    options.action = Options::Action::print;
    options.text = "llmlaunch " LLMLAUNCH_VERSION "\n";
    return options;
  } catch (const CLI::ParseError& caught) {
    return usage(caught.what(), kListsRunOptions);
  }
  if (parser.exec.app->parsed()) return parser.exec.options(std::move(parts->program));
  if (parser.hosts.app->parsed()) return parser.hosts.options(std::move(parts->program));
  if (parser.docs_pages.parsed()) return parser.docs_pages.options(std::move(parts->program));
  if (parser.docs_reference.parsed()) return parser.docs_reference.options(parts->program);
  if (parser.config_words.parsed()) return parser.config_words.options(std::move(parts->program));
  if (parser.store.app->parsed()) return parser.store.options(std::move(parts->program));
  if (parser.env.app->parsed()) return parser.env.options(parts->program);
  if (parser.wizard.app->parsed()) return parser.wizard.options(parts->program);
  if (parser.version->parsed()) {
    if (!parts->program.empty())
      return usage(fmt::format("version: '{}' is one word too many", parts->program.front()), "llmlaunch version");
    options.action = Options::Action::version;
    return options;
  }
  if (parser.docs->parsed())
    return parts->program.empty() ? usage("docs: nothing is named", "llmlaunch docs --help lists what there is")
                                  : usage(fmt::format("docs: '{}' is not known", parts->program.front()),
                                          "llmlaunch docs --help lists what there is");
  if (!parser.run.app->parsed()) return usage("no command given", "a program is started by: llmlaunch run PROGRAM");
  if (auto checked = parser.run.check_values(); !checked) return checked.error();
  if (auto applied = apply_foreign(parts->foreign, parser.run.values); !applied) return applied.error();
  options.run = std::move(parser.run.values);
  options.run.command = std::move(parts->program);
  if (options.run.command.empty()) {
    return usage("run: no program given", "llmlaunch run [OPTIONS] PROGRAM [ARGS…], or llmlaunch run [OPTIONS] train");
  }
  if (options.run.command.front().empty()) {
    return usage("run: the program's name is empty", "a variable in its place may not be set");
  }
  return options;
}

}  // namespace llmlaunch::cli
