// The words of `llmlaunch run` that are llmlaunch's own; those of accelerate and torchrun are in foreign_flags.cpp.
#include "cli/run_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

#include "cli/examples.hpp"
#include "cli/exec_options.hpp"
#include "cli/option_values.hpp"
#include "launcher/config.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::uint32_t kMostProcesses = 262'144;

constexpr const char* kRunFooter =
    "A .py file is run by Python. The options of accelerate launch and torchrun work under their own names as well.\n"
    "PROGRAM and everything behind it are passed on as they are. The program 'train' is llmlaunch's own trainer\n"
    "(llmlaunch run train --help lists its flags); write ./train for a program of yours with that name.\n"
    "Without --config: accelerate's default file if there is one, else this machine alone,\n"
    "with a rank for each of its GPUs.";

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

}  // namespace

void RunParser::add_to(CLI::App& parent) {
  app = parent.add_subcommand("run", "Run a program on all hosts, or the built-in trainer ('train')");
  app->formatter(std::make_shared<RunHelp>());
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kRunFooter);
  add_value(*app, "-c,--config", values.config, "FILE",
            "Configuration: accelerate's YAML, with or without 'llmlaunch:'");
  add_setting_option(*app, values.settings);
  add_value(*app, "--hosts", values.hosts, "LIST", "Hosts instead of the file's: gpu[01-16],login0");
  add_value(*app, "--hostfile", values.hostfile, "FILE",
            "Hosts and slots from a file: Open MPI, DeepSpeed, PBS, Slurm …");
  add_value(*app, "--from", values.from, "FORMAT",
            "How it is written; slurm, pbs and lsf without a file: the hosts of this allocation");
  add_value(*app, "-n,--num-processes", num_processes_, "N", "Ranks on all hosts together");
  add_value(*app, "--nproc-per-node", nproc_per_node_, "N", "Ranks on each host");
  add_value(*app, "--log-dir", values.log_dir, "DIR", "Where the run directory is made");
  add_value(*app, "--workdir", values.workdir, "DIR", "Where the ranks start, on every host");
  add_value(*app, "--timeout", timeout_, "TIME", "Stop the job after this time: 90, 30s, 5m, 2h");
  add_value(*app, "--stdin", stdin_to_, "none|0|all", "Which ranks read llmlaunch's stdin; none is the default");
  add_value(*app, "--cpu-bind", cpu_bind_, "none|core|numa|gpu", "Give each rank cores of its own");
  app->add_option("--forward-signal", forward_signals_,
                  "Signals that go to the ranks: HUP, RTMIN+1; USR1 and USR2 always do")
      ->type_name("NAME[,NAME]")
      ->allow_extra_args(false);
  app->add_option("--env", values.env, "Set a variable for all ranks; NAME alone passes the value on that it has here")
      ->type_name("NAME[=VALUE]")
      ->allow_extra_args(false);
  add_output_options();
  app->add_flag("-q,--quiet", quiet_, "Say nothing but warnings and errors");
  app->add_flag("-v,--verbose", verbose_, "Say more");
  app->add_flag("--ask-pass", values.ask_pass, "Ask for a password, once, for hosts that take no key");
  app->add_flag("--batch", values.batch, "Ask for nothing, not even a key's passphrase");
  app->add_flag("--dry-run", values.dry_run, "Print the plan; start nothing, contact no host");
  add_launcher_options();
  app->add_flag("--explain", values.explain, kExplainText);
  group_run_options(*app);
}

void RunParser::add_output_options() {
  add_value(*app, "--prefix", prefix_, "TEXT",
            "Before each line, with {host} {rank} {local_rank} {node_rank} {time} …");
  add_value(*app, "--color", color_, "auto|always|never", "Colours; auto: on a terminal");
  add_value(*app, "--color-by", color_by_, "host|rank", "One colour for each host, or for each rank");
  add_value(*app, "--ranks", ranks_, "LIST", "Show these ranks alone: 0,8-15; the files keep all");
  app->add_flag("--fold-lines", values.fold_lines, "Show a line that many ranks write at once one time");
  add_value(*app, "--updates-per-second", updates_per_second_, "N",
            "Of a rank's progress bar off a terminal; 0: its end");
  app->add_flag("--no-progress", values.no_progress, "No line on the terminal that is drawn again");
  add_value(*app, "--timeline", values.timeline, "FILE", "Write how long each host took for what (trace and table)");
}

void RunParser::add_launcher_options() {
  app->add_flag("--json", values.json, "With --dry-run: the plan as JSON");
  app->add_flag("-m,--module", values.module, "PROGRAM is a Python module, as after python -m");
  app->add_flag("--no-python", values.no_python, "Run a .py file as the program that it is");
  add_value(*app, "--python", values.python, "PATH", "Instead of python3 for .py files and modules");
  add_value(*app, "--include", values.include, "LIST", "These hosts alone; n1:0,2@n2 also chooses GPUs");
  add_value(*app, "-x,--exclude", values.exclude, "LIST", "All hosts but these; n1:3 leaves out a GPU");
  add_value(*app, "--nodes", values.nodes, "N|A-B", "The first N hosts, or those from place A to B (from 1)");
  add_value(*app, "--token-file", values.token_file, "FILE", "The secret of machines that are started one by one");
  add_value(*app, "--json-events", values.json_events, "FILE|FD", "Write what happens as JSON, one object a line");
  app->add_flag("--lock", values.lock, "One run of this configuration at a time; the second ends with 75");
  app->add_flag("--cron", values.cron, "Print nothing unless something fails, then a summary; ask for nothing");
}

/// What may be said of output: each value by the words of the configuration key of the same name.
Result<void> RunParser::check_output() {
  RunOptions& run = values;
  const auto given = [this](const char* name) { return app->count(name) > 0; };
  if (given("--prefix")) {
    if (const auto parsed = launcher::parse_prefix(prefix_); !parsed)
      return usage("--prefix: " + parsed.error().what, parsed.error().hint);
    run.prefix = prefix_;
  }
  if (given("--color") && !(run.color = launcher::color_when(color_)))
    return usage(fmt::format("--color must be auto, always or never, not '{}'", color_), kListsRunOptions);
  if (given("--color-by") && !(run.color_by = launcher::color_by(color_by_)))
    return usage(fmt::format("--color-by must be host or rank, not '{}'", color_by_), kListsRunOptions);
  if (given("--ranks")) {
    auto ranks = launcher::parse_ranks(ranks_);
    if (!ranks) return usage("--ranks: " + ranks.error().what, ranks.error().hint);
    run.ranks = std::move(*ranks);
  }
  if (given("--updates-per-second")) {
    const auto updates = launcher::parse_updates(updates_per_second_);
    if (!updates)
      return usage(fmt::format("--updates-per-second must be a number from 0 to {}, not '{}'",
                               launcher::kMaxUpdatesPerSecond, updates_per_second_),
                   kListsRunOptions);
    run.updates_per_second = updates;
  }
  if (given("--timeline") && run.timeline.empty()) return usage("--timeline is empty", kListsRunOptions);
  return ok;
}

/// How the ranks run.
Result<void> RunParser::check_process_values() {
  RunOptions& run = values;
  const auto refuse = [](std::string_view name, std::string_view words, const std::string& value) {
    return usage(fmt::format("{} must be {}, not '{}'", name, words, value), kListsRunOptions);
  };
  if (app->count("--stdin") > 0) {
    run.stdin_to = launcher::parse_stdin(stdin_to_);
    if (!run.stdin_to) return refuse("--stdin", launcher::kStdinWords, stdin_to_);
  }
  if (app->count("--cpu-bind") > 0) {
    run.cpu_bind = launcher::parse_cpu_bind(cpu_bind_);
    if (!run.cpu_bind) return refuse("--cpu-bind", launcher::kCpuBindWords, cpu_bind_);
  }
  for (const std::string& list : forward_signals_) {
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

Result<void> RunParser::check_values() {
  RunOptions& run = values;
  const std::string hint = kListsRunOptions;
  const auto num_processes = count_value(*app, "--num-processes", num_processes_, kMostProcesses);
  if (!num_processes) return num_processes.error();
  constexpr std::array<std::string_view, 3> kDevices{"gpu", "cpu", "auto"};
  if (std::find(kDevices.begin(), kDevices.end(), nproc_per_node_) != kDevices.end())
    run.nproc_device = nproc_per_node_;
  const auto nproc_per_node = run.nproc_device.empty()
                                  ? count_value(*app, "--nproc-per-node", nproc_per_node_, kMostProcesses)
                                  : Result<std::optional<std::uint32_t>>(std::optional<std::uint32_t>{});
  if (!nproc_per_node) return nproc_per_node.error();
  run.num_processes = *num_processes;
  run.nproc_per_node = *nproc_per_node;
  if (quiet_ && verbose_) return usage("--quiet and --verbose exclude each other", hint);
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
  if (run.cron && verbose_) return usage("--cron and --verbose exclude each other", hint);
  if (run.cron && run.ask_pass) return usage("--cron and --ask-pass exclude each other", hint);
  if (app->count("--json-events") > 0 && run.json_events.empty()) return usage("--json-events is empty", hint);
  const auto timeout = time_value(*app, "--timeout", timeout_);
  if (!timeout) return timeout.error();
  run.timeout = *timeout;
  if (run.hosts && (run.hostfile || run.from))
    return usage(fmt::format("--hosts and {} exclude each other", run.hostfile ? "--hostfile" : "--from"), hint);
  if (auto checked = check_from(*app, run.from); !checked) return checked.error();
  if (auto checked = check_process_values(); !checked) return checked;
  if (auto checked = check_env_entries(run.env, hint); !checked) return checked.error();
  if (auto checked = check_settings(run.settings, hint); !checked) return checked.error();
  if (auto checked = check_output(); !checked) return checked;
  if (run.token_file) run.overrides.push_back({"llmlaunch.token_file", *run.token_file, "--token-file"});
  run.verbosity = quiet_ ? Verbosity::quiet : verbose_ ? Verbosity::verbose : Verbosity::normal;
  return ok;
}

}  // namespace llmlaunch::cli
