// CLI11 reads llmlaunch's own words only. The line is cut first, where the program begins: what stands behind that
// point is data of another program, and no option parser may reorder, split or interpret it.
#include "cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "cli/command_tree.hpp"
#include "cli/config_options.hpp"
#include "cli/docs_pages.hpp"
#include "cli/docs_reference.hpp"
#include "cli/env_options.hpp"
#include "cli/examples.hpp"
#include "cli/exec_options.hpp"
#include "cli/foreign_flags.hpp"
#include "cli/foreign_options.hpp"
#include "cli/hosts_options.hpp"
#include "cli/option_values.hpp"
#include "cli/wizard_options.hpp"
#include "launcher/config.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::uint32_t kMostProcesses = 262'144;

constexpr const char* kRunFooter =
    "A .py file is run by Python. The options of accelerate launch and torchrun work under their own names as well.\n"
    "PROGRAM and everything behind it are passed on as they are. The program 'train' is llmlaunch's own trainer\n"
    "(llmlaunch run train --help lists its flags); write ./train for a program of yours with that name.\n"
    "Without --config: accelerate's default file if there is one, else this machine alone.";

/// CLI11 knows nothing of the program behind the options.
class RunHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch run [OPTIONS] PROGRAM [ARGS…]\n       llmlaunch run [OPTIONS] train [TRAINER FLAGS…]\n";
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string help = Formatter::make_help(app, std::move(name), mode);
    // CLI11 leaves two empty lines between groups.
    for (std::size_t at; (at = help.find("\n\n\n")) != help.npos;) help.erase(at, 1);
    return help;
  }
};

constexpr const char* kListsOptions = "llmlaunch run --help lists the options";

/// The option parser and what it fills.
struct Parser {
  CLI::App app{"Starts a training job on any number of machines over ssh."};
  CLI::App* run = nullptr;
  ExecParser exec;
  HostsParser hosts;
  CLI::App* docs = nullptr;
  DocsPagesParser docs_pages;
  DocsReferenceParser docs_reference;
  CLI::App* config = nullptr;
  ConfigParser config_words;
  EnvParser env;
  WizardParser wizard;
  RunOptions values;
  std::string num_processes;  // numbers as text: CLI11 would read 010 as 8
  std::string nproc_per_node;
  std::string timeout;
  std::string prefix;
  std::string color;
  std::string color_by;
  std::string ranks;
  std::string updates_per_second;
  std::string stdin_to;
  std::string cpu_bind;
  std::vector<std::string> forward_signals;
  bool quiet = false;
  bool verbose = false;

  Parser();
  Parser(const Parser&) = delete;
  void add_output_options();
  void add_launcher_options();
};

Parser::Parser() {
  app.name("llmlaunch");
  app.set_version_flag("-V,--version", "llmlaunch " LLMLAUNCH_VERSION);
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.footer("llmlaunch COMMAND --help tells more about a command.");
  run = app.add_subcommand("run", "Run a program on all hosts, or the built-in trainer ('train')");
  run->formatter(std::make_shared<RunHelp>());
  run->set_help_flag("-h,--help", "Print this help and exit");
  run->footer(kRunFooter);
  add_value(*run, "-c,--config", values.config, "FILE",
            "Configuration: accelerate's YAML, with or without 'llmlaunch:'");
  add_setting_option(*run, values.settings);
  add_value(*run, "--hosts", values.hosts, "LIST", "Hosts instead of the file's: gpu[01-16],login0");
  add_value(*run, "--hostfile", values.hostfile, "FILE",
            "Hosts and slots from a file: Open MPI, DeepSpeed, PBS, Slurm …");
  add_value(*run, "--from", values.from, "FORMAT",
            "How it is written; slurm, pbs and lsf without a file: the hosts of this allocation");
  add_value(*run, "-n,--num-processes", num_processes, "N", "Ranks on all hosts together");
  add_value(*run, "--nproc-per-node", nproc_per_node, "N", "Ranks on each host");
  add_value(*run, "--log-dir", values.log_dir, "DIR", "Where the run directory is made");
  add_value(*run, "--workdir", values.workdir, "DIR", "Where the ranks start, on every host");
  add_value(*run, "--timeout", timeout, "TIME", "Stop the job after this time: 90, 30s, 5m, 2h");
  add_value(*run, "--stdin", stdin_to, "none|0|all", "Which ranks read llmlaunch's stdin; none is the default");
  add_value(*run, "--cpu-bind", cpu_bind, "none|core|numa|gpu", "Give each rank cores of its own");
  run->add_option("--forward-signal", forward_signals,
                  "Signals that go to the ranks: HUP, RTMIN+1; USR1 and USR2 always do")
      ->type_name("NAME[,NAME]")
      ->allow_extra_args(false);
  run->add_option("--env", values.env, "Set a variable for all ranks; NAME alone passes the value on that it has here")
      ->type_name("NAME[=VALUE]")
      ->allow_extra_args(false);
  add_output_options();
  run->add_flag("-q,--quiet", quiet, "Say nothing but warnings and errors");
  run->add_flag("-v,--verbose", verbose, "Say more");
  run->add_flag("--ask-pass", values.ask_pass, "Ask for a password, once, for hosts that take no key");
  run->add_flag("--batch", values.batch, "Ask for nothing, not even a key's passphrase");
  run->add_flag("--dry-run", values.dry_run, "Print the plan; start nothing, contact no host");
  add_launcher_options();
  run->add_flag("--explain", values.explain, kExplainText);
  group_run_options(*run);
  exec.add_to(app);
  hosts.add_to(app);
  env.add_to(app);
  docs = app.add_subcommand("docs", "Manual pages, shell completion, and the reference of configuration keys");
  docs->set_help_flag("-h,--help", "Print this help and exit");
  docs_pages.add_to(*docs);
  docs_reference.add_to(*docs);
  config = app.add_subcommand("config", "Write a configuration by questions and a look at the hosts; check one");
  wizard.add_to(*config);
  config_words.add_to(*config);
  for (CLI::App* command : {run, exec.app, hosts.app}) add_examples(*command);
}

void Parser::add_output_options() {
  add_value(*run, "--prefix", prefix, "TEXT", "Before each line, with {host} {rank} {local_rank} {node_rank} {time} …");
  add_value(*run, "--color", color, "auto|always|never", "Colours; auto: on a terminal");
  add_value(*run, "--color-by", color_by, "host|rank", "One colour for each host, or for each rank");
  add_value(*run, "--ranks", ranks, "LIST", "Show these ranks alone: 0,8-15; the files keep all");
  run->add_flag("--fold-lines", values.fold_lines, "Show a line that many ranks write at once one time");
  add_value(*run, "--updates-per-second", updates_per_second, "N",
            "Of a progress bar, for each rank; 0: its end alone");
  run->add_flag("--no-progress", values.no_progress, "Do not show on the terminal how far the hosts are");
  add_value(*run, "--timeline", values.timeline, "FILE", "Write how long each host took for what (trace and table)");
}

void Parser::add_launcher_options() {
  run->add_flag("--json", values.json, "With --dry-run: the plan as JSON");
  run->add_flag("-m,--module", values.module, "PROGRAM is a Python module, as after python -m");
  run->add_flag("--no-python", values.no_python, "Run a .py file as the program that it is");
  add_value(*run, "--python", values.python, "PATH", "Instead of python3 for .py files and modules");
  add_value(*run, "--include", values.include, "LIST", "These hosts alone; n1:0,2@n2 also chooses GPUs");
  add_value(*run, "-x,--exclude", values.exclude, "LIST", "All hosts but these; n1:3 leaves out a GPU");
  add_value(*run, "--nodes", values.nodes, "N|A-B", "The first N hosts, or those from place A to B (from 1)");
  add_value(*run, "--token-file", values.token_file, "FILE", "The secret of machines that are started one by one");
  add_value(*run, "--json-events", values.json_events, "FILE|FD", "Write what happens as JSON, one object a line");
  run->add_flag("--lock", values.lock, "One run of this configuration at a time; the second ends with 75");
  run->add_flag("--cron", values.cron, "Print nothing unless something fails, then a summary; ask for nothing");
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
    const auto runs = app.get_subcommands([](const CLI::App* one) { return one->get_name() == "run"; });
    if (!runs.empty() && runs.front()->get_option_no_throw(name) != nullptr)
      return usage(fmt::format("option '{}' in front of the command", name),
                   fmt::format("options stand behind it: llmlaunch run {} …", name));
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

/// "llmlaunch docs man".
std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

/// A word where a command is expected, as CLI11 is to read it.
Result<std::string> command_word(const CLI::App& app, const std::string& word) {
  if (subcommand(app, word) != nullptr) return word;
  if (word == "help" || word == "version") return "--" + word;
  constexpr std::array<std::string_view, 8> kCommands{"run",  "exec",   "hosts", "env",
                                                      "docs", "config", "help",  "version"};
  const auto meant = nearest(word, kCommands);
  return usage(fmt::format("unknown command '{}'", word),
               meant.empty() ? fmt::format("a program is started by: llmlaunch run {}",
                                           word.empty() || word.front() == '-' ? "PROGRAM" : word)
                             : fmt::format("did you mean '{}'?", meant));
}

/// Own words, cut off before the program; and the program's.
struct Cut {
  std::vector<std::string> own;
  std::vector<std::string> program;
  std::vector<const CLI::Option*> seen;
  std::vector<ForeignUse> foreign;
};

/// The same for an option of accelerate or torchrun.
Result<void> take_foreign(const std::string& name, const std::vector<std::string>& words, std::size_t& i, Cut& parts) {
  const std::string& typed = words[i];
  const bool is_long = typed.starts_with("--");
  const auto equals = is_long ? typed.find('=') : typed.npos;
  ForeignUse use{is_long ? typed.substr(0, equals) : typed.substr(0, 2), name, ""};
  const auto twice = [&](const ForeignUse& other) { return other.name == name; };
  if (std::any_of(parts.foreign.begin(), parts.foreign.end(), twice))
    return usage(fmt::format("option '{}' is given twice", use.option), kListsOptions);
  const bool takes_value = foreign_kind(name).takes_value;
  if (equals != typed.npos) {
    if (!takes_value) return usage(fmt::format("option '{}' takes no value", use.option), kListsOptions);
    use.value = typed.substr(equals + 1);
  } else if (!is_long && typed.size() > 2) {
    use.value = typed.substr(2);
  } else if (takes_value) {
    if (i + 1 == words.size()) return usage(fmt::format("option '{}' needs a value", use.option), kListsOptions);
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

Result<Cut> cut(const Parser& parser, const std::vector<std::string>& words) {
  Cut parts;
  const CLI::App* app = &parser.app;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool in_command = app != &parser.app;
    if (words[i] == "--" && in_command) {
      parts.program.insert(parts.program.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      return parts;
    }
    if (words[i].size() > 1 && words[i].front() == '-' && words[i] != "--") {
      if (auto taken = take_option(*app, full_name(*app), words, i, parts); !taken) return taken.error();
      continue;
    }
    if (const CLI::App* below = in_command ? subcommand(*app, words[i]) : nullptr) {
      app = below;
      parts.own.push_back(words[i]);
      continue;
    }
    if (app == parser.hosts.app || app == parser.config || app->get_parent() == parser.config) {
      // These take words with options between them.
      parts.program.push_back(words[i]);
      continue;
    }
    if (in_command) {
      parts.program.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      return parts;
    }
    auto command = command_word(parser.app, words[i]);
    if (!command) return command.error();
    if (const CLI::App* found = subcommand(parser.app, *command)) app = found;
    parts.own.push_back(std::move(*command));
  }
  return parts;
}

/// What may be said of output: each value by the words of the configuration key of the same name.
Result<void> check_output(Parser& parser) {
  RunOptions& run = parser.values;
  const auto given = [&parser](const char* name) { return parser.run->count(name) > 0; };
  if (given("--prefix")) {
    if (const auto parsed = launcher::parse_prefix(parser.prefix); !parsed)
      return usage("--prefix: " + parsed.error().what, parsed.error().hint);
    run.prefix = parser.prefix;
  }
  if (given("--color") && !(run.color = launcher::color_when(parser.color)))
    return usage(fmt::format("--color must be auto, always or never, not '{}'", parser.color), kListsOptions);
  if (given("--color-by") && !(run.color_by = launcher::color_by(parser.color_by)))
    return usage(fmt::format("--color-by must be host or rank, not '{}'", parser.color_by), kListsOptions);
  if (given("--ranks")) {
    auto ranks = launcher::parse_ranks(parser.ranks);
    if (!ranks) return usage("--ranks: " + ranks.error().what, ranks.error().hint);
    run.ranks = std::move(*ranks);
  }
  if (given("--updates-per-second")) {
    const auto updates = launcher::parse_updates(parser.updates_per_second);
    if (!updates)
      return usage(fmt::format("--updates-per-second must be a number from 0 to {}, not '{}'",
                               launcher::kMaxUpdatesPerSecond, parser.updates_per_second),
                   kListsOptions);
    run.updates_per_second = updates;
  }
  if (given("--timeline") && run.timeline.empty()) return usage("--timeline is empty", kListsOptions);
  return ok;
}

/// How the ranks run.
Result<void> check_process_values(Parser& parser) {
  RunOptions& run = parser.values;
  const auto refuse = [](std::string_view name, std::string_view words, const std::string& value) {
    return usage(fmt::format("{} must be {}, not '{}'", name, words, value), kListsOptions);
  };
  if (parser.run->count("--stdin") > 0) {
    run.stdin_to = launcher::parse_stdin(parser.stdin_to);
    if (!run.stdin_to) return refuse("--stdin", launcher::kStdinWords, parser.stdin_to);
  }
  if (parser.run->count("--cpu-bind") > 0) {
    run.cpu_bind = launcher::parse_cpu_bind(parser.cpu_bind);
    if (!run.cpu_bind) return refuse("--cpu-bind", launcher::kCpuBindWords, parser.cpu_bind);
  }
  for (const std::string& list : parser.forward_signals) {
    for (std::size_t start = 0; start <= list.size();) {
      const std::size_t end = std::min(list.find(',', start), list.size());
      const auto signal = launcher::parse_forwarded_signal(std::string_view(list).substr(start, end - start));
      if (!signal) return usage("--forward-signal: " + signal.error().what, signal.error().hint);
      run.forward_signals.push_back(*signal);
      start = end + 1;
    }
  }
  return ok;
}

Result<void> check_values(Parser& parser) {
  RunOptions& run = parser.values;
  const std::string hint = kListsOptions;
  const auto num_processes = count_value(*parser.run, "--num-processes", parser.num_processes, kMostProcesses);
  if (!num_processes) return num_processes.error();
  constexpr std::array<std::string_view, 3> kDevices{"gpu", "cpu", "auto"};
  if (std::find(kDevices.begin(), kDevices.end(), parser.nproc_per_node) != kDevices.end())
    run.nproc_device = parser.nproc_per_node;
  const auto nproc_per_node = run.nproc_device.empty()
                                  ? count_value(*parser.run, "--nproc-per-node", parser.nproc_per_node, kMostProcesses)
                                  : Result<std::optional<std::uint32_t>>(std::optional<std::uint32_t>{});
  if (!nproc_per_node) return nproc_per_node.error();
  run.num_processes = *num_processes;
  run.nproc_per_node = *nproc_per_node;
  if (parser.quiet && parser.verbose) return usage("--quiet and --verbose exclude each other", hint);
  if (run.ask_pass && run.batch) return usage("--ask-pass and --batch exclude each other", hint);
  if (run.num_processes && (run.nproc_per_node || !run.nproc_device.empty()))
    return usage("--num-processes and --nproc-per-node exclude each other", hint);
  for (const auto& [name, value] :
       {std::pair{"--config", &run.config}, std::pair{"--hosts", &run.hosts}, std::pair{"--hostfile", &run.hostfile},
        std::pair{"--log-dir", &run.log_dir}, std::pair{"--workdir", &run.workdir}, std::pair{"--python", &run.python},
        std::pair{"--token-file", &run.token_file}, std::pair{"--include", &run.include},
        std::pair{"--exclude", &run.exclude}, std::pair{"--nodes", &run.nodes}}) {
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  }
  if (run.module && run.no_python) return usage("--module and --no-python exclude each other", hint);
  if (run.python && run.no_python) return usage("--python and --no-python exclude each other", hint);
  if (run.json && !run.dry_run) return usage("--json is for --dry-run", "--json-events writes what happens in a run");
  if (run.cron && parser.verbose) return usage("--cron and --verbose exclude each other", hint);
  if (run.cron && run.ask_pass) return usage("--cron and --ask-pass exclude each other", hint);
  if (parser.run->count("--json-events") > 0 && run.json_events.empty()) return usage("--json-events is empty", hint);
  const auto timeout = time_value(*parser.run, "--timeout", parser.timeout);
  if (!timeout) return timeout.error();
  run.timeout = *timeout;
  if (run.hosts && (run.hostfile || run.from))
    return usage(fmt::format("--hosts and {} exclude each other", run.hostfile ? "--hostfile" : "--from"), hint);
  if (auto checked = check_from(*parser.run, run.from); !checked) return checked.error();
  if (auto checked = check_process_values(parser); !checked) return checked;
  if (auto checked = check_env_entries(run.env, hint); !checked) return checked.error();
  if (auto checked = check_settings(run.settings, hint); !checked) return checked.error();
  if (auto checked = check_output(parser); !checked) return checked;
  if (run.token_file) run.overrides.push_back({"llmlaunch.token_file", *run.token_file, "--token-file"});
  run.verbosity = parser.quiet ? Verbosity::quiet : parser.verbose ? Verbosity::verbose : Verbosity::normal;
  return ok;
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
  if (words.size() == 1 && words.front() == "version") {
    options.action = Options::Action::version;
    return options;
  }
  auto parts = cut(parser, words);
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
    return usage(caught.what(), kListsOptions);
  }
  if (parser.exec.app->parsed()) return parser.exec.options(std::move(parts->program));
  if (parser.hosts.app->parsed()) return parser.hosts.options(std::move(parts->program));
  if (parser.docs_pages.parsed()) return parser.docs_pages.options(std::move(parts->program));
  if (parser.docs_reference.parsed()) return parser.docs_reference.options(parts->program);
  if (parser.config_words.parsed()) return parser.config_words.options(std::move(parts->program));
  if (parser.env.app->parsed()) return parser.env.options(parts->program);
  if (parser.wizard.app->parsed()) return parser.wizard.options(parts->program);
  if (parser.docs->parsed())
    return parts->program.empty() ? usage("docs: nothing is named", "llmlaunch docs --help lists what there is")
                                  : usage(fmt::format("docs: '{}' is not known", parts->program.front()),
                                          "llmlaunch docs --help lists what there is");
  if (!parser.run->parsed()) return usage("no command given", "a program is started by: llmlaunch run PROGRAM");
  if (auto checked = check_values(parser); !checked) return checked.error();
  if (auto applied = apply_foreign(parts->foreign, parser.values); !applied) return applied.error();
  options.run = std::move(parser.values);
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
