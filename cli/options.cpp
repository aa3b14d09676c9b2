// CLI11 reads llmlaunch's own words only. The line is cut first, where the program begins: what stands behind that point
// is data of another program, and no option parser may reorder, split or interpret it.
#include "cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "launcher/config.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::uint32_t kMostProcesses = 262'144;

constexpr const char* kRunFooter =
    "PROGRAM and everything behind it are passed on as they are. The program 'train' is llmlaunch's own trainer\n"
    "(llmlaunch run train --help lists its flags); write ./train for a program of yours with that name.\n"
    "Without --config: accelerate's default file if there is one, else this machine alone.";

Error usage(std::string what, std::string hint = "llmlaunch --help shows how it is called") {
  return make_error(Errc::usage, std::move(what), {}, std::move(hint));
}

/// CLI11 knows nothing of the program behind the options.
class RunHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch run [OPTIONS] PROGRAM [ARGS…]\n       llmlaunch run [OPTIONS] train [TRAINER FLAGS…]\n";
  }
};

/// The option parser and what it fills.
struct Parser {
  CLI::App app{"Starts a training job on any number of machines over ssh."};
  CLI::App* run = nullptr;
  RunOptions values;
  std::string timeout;
  bool quiet = false;
  bool verbose = false;

  Parser();
  Parser(const Parser&) = delete;
};

/// One value per use: CLI11 would otherwise take "[a,b]" apart and read on into the next words.
template <class T>
void add_value(CLI::App& app, const char* names, T& target, const char* type, const char* text) {
  app.add_option(names, target, text)->type_name(type)->allow_extra_args(false);
}

Parser::Parser() {
  app.name("llmlaunch");
  app.set_version_flag("-V,--version", "llmlaunch " LLMLAUNCH_VERSION);
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.footer("llmlaunch COMMAND --help tells more about a command.");
  run = app.add_subcommand("run", "Run a program on all hosts, or the built-in trainer ('train')");
  run->formatter(std::make_shared<RunHelp>());
  run->set_help_flag("-h,--help", "Print this help and exit");
  run->footer(kRunFooter);
  add_value(*run, "-c,--config", values.config, "FILE", "Configuration: accelerate's YAML, with or without 'llmlaunch:'");
  add_value(*run, "--hosts", values.hosts, "LIST", "Hosts instead of the file's: gpu[01-16],login0");
  add_value(*run, "-n,--num-processes", values.num_processes, "N", "Ranks on all hosts together");
  add_value(*run, "--nproc-per-node", values.nproc_per_node, "N", "Ranks on each host");
  add_value(*run, "--log-dir", values.log_dir, "DIR", "Where the run directory is made");
  add_value(*run, "--workdir", values.workdir, "DIR", "Where the ranks start, on every host");
  add_value(*run, "--timeout", timeout, "TIME", "Stop the job after this time: 90, 30s, 5m, 2h");
  run->add_option("--env", values.env, "Set a variable for all ranks; NAME alone passes the value on that it has here")
      ->type_name("NAME[=VALUE]")
      ->allow_extra_args(false);
  auto* const quiet_flag = run->add_flag("-q,--quiet", quiet, "Say nothing but warnings and errors");
  run->add_flag("-v,--verbose", verbose, "Say more")->excludes(quiet_flag);
  run->add_flag("--dry-run", values.dry_run, "Print the plan; start nothing, contact no host");
}

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
    const auto known = long_names(app);
    const auto meant = is_long ? nearest(name, known) : std::string_view{};
    return usage(fmt::format("unknown option '{}'", name),
                 meant.empty() ? fmt::format("{} --help lists the options", command) : fmt::format("did you mean '{}'?", meant));
  }
  const bool takes_value = option->get_items_expected_max() > 0;
  const bool inside = is_long ? equals != word.npos : word.size() > 2;
  return Found{option, takes_value && !inside};
}

/// Own words, cut off before the program; and the program's.
struct Cut {
  std::vector<std::string> own;
  std::vector<std::string> program;
};
Result<Cut> cut(const Parser& parser, const std::vector<std::string>& words) {
  Cut parts;
  const CLI::App* app = &parser.app;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool in_run = app == parser.run;
    if (words[i] == "--" && in_run) {
      parts.program.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      return parts;
    }
    if (words[i].size() > 1 && words[i].front() == '-' && words[i] != "--") {
      const std::string word = with_hyphens(words[i]);
      const auto found = find_option(*app, word, in_run ? "llmlaunch run" : "llmlaunch");
      if (!found) return found.error();
      parts.own.push_back(word);
      if (found->value_follows) {
        if (i + 1 == words.size()) return usage(fmt::format("option '{}' needs a value", word), "llmlaunch run --help lists the options");
        parts.own.push_back(words[++i]);
      }
      continue;
    }
    if (in_run) {
      parts.program.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      return parts;
    }
    if (words[i] != "run") {
      constexpr std::array<std::string_view, 1> kCommands{"run"};
      const auto meant = nearest(words[i], kCommands);
      return usage(fmt::format("unknown command '{}'", words[i]),
                   meant.empty() ? "commands: run; llmlaunch --help tells more" : fmt::format("did you mean '{}'?", meant));
    }
    app = parser.run;
    parts.own.push_back(words[i]);
  }
  return parts;
}

Result<void> check_values(Parser& parser) {
  RunOptions& run = parser.values;
  const std::string hint = "llmlaunch run --help lists the options";
  for (const auto& [name, value] : {std::pair{"--num-processes", run.num_processes}, std::pair{"--nproc-per-node", run.nproc_per_node}}) {
    if (value && (*value == 0 || *value > kMostProcesses)) {
      return usage(fmt::format("{} must be from 1 to {}, not {}", name, kMostProcesses, *value), hint);
    }
  }
  if (run.num_processes && run.nproc_per_node) return usage("--num-processes and --nproc-per-node exclude each other", hint);
  for (const auto& [name, value] : {std::pair{"--config", &run.config}, std::pair{"--hosts", &run.hosts},
                                    std::pair{"--log-dir", &run.log_dir}, std::pair{"--workdir", &run.workdir}}) {
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  }
  if (parser.run->count("--timeout") > 0) {
    run.timeout = launcher::parse_duration(parser.timeout);
    if (!run.timeout || run.timeout->count() == 0) {
      return usage(fmt::format("--timeout must be a time such as 90, 30s, 5m or 2h, not '{}'", parser.timeout), hint);
    }
  }
  for (const auto& entry : run.env) {
    const std::string name = entry.substr(0, entry.find('='));
    if (name.empty()) return usage("--env needs NAME=VALUE or NAME", hint);
    if (launcher::set_by_llmlaunch(name)) return usage(fmt::format("--env {}: llmlaunch gives every rank its own {}", name, name), "");
  }
  run.verbosity = parser.quiet ? Verbosity::quiet : parser.verbose ? Verbosity::verbose : Verbosity::normal;
  return ok;
}

}  // namespace

Result<Options> parse_options(const std::vector<std::string>& words) {
  Parser parser;
  Options options;
  if (words.empty()) {
    options.action = Options::Action::print_usage;
    options.text = parser.app.help();
    return options;
  }
  auto parts = cut(parser, words);
  if (!parts) return parts.error();
  try {
    parser.app.parse(std::vector<std::string>(parts->own.rbegin(), parts->own.rend()));  // CLI11 wants the last word first
  } catch (const CLI::CallForHelp&) {
    options.action = Options::Action::print;
    options.text = (parser.run->parsed() ? parser.run : &parser.app)->help();
    return options;
  } catch (const CLI::CallForVersion&) {
    options.action = Options::Action::print;
    options.text = "llmlaunch " LLMLAUNCH_VERSION "\n";
    return options;
  } catch (const CLI::ParseError& caught) {
    return usage(caught.what(), "llmlaunch run --help lists the options");
  }
  if (!parser.run->parsed()) return usage("no command given", "llmlaunch run PROGRAM starts one");
  if (auto checked = check_values(parser); !checked) return checked.error();
  options.run = std::move(parser.values);
  options.run.command = std::move(parts->program);
  if (options.run.command.empty()) {
    return usage("run: no program given", "llmlaunch run [OPTIONS] PROGRAM [ARGS…], or llmlaunch run [OPTIONS] train");
  }
  return options;
}

}  // namespace llmlaunch::cli
