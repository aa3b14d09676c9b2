// `llmlaunch exec`: letters as pdsh has them, where it has them (-w, -x, -f, -l, -t, -u).
#include "cli/exec_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/option_values.hpp"
#include "launcher/hostfile.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::uint32_t kMostAtOnce = 65'536;

constexpr const char* kExecFooter =
    "PROGRAM and everything behind it are passed on as they are, without a shell; --shell runs one line of sh.\n"
    "Hosts: -w and --hostfile, else those of the configuration, else the file that WCOLL names. -w takes host lists\n"
    "(gpu[01-64],login0), ^FILE, - for stdin, /REGEX/, -HOST and the operators , ! & ^ from left to right.\n"
    "Exit status: 69 when a host was not reached, else 124 when a command took too long, else the highest status.";

class ExecHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch exec [OPTIONS] PROGRAM [ARGS…]\n       llmlaunch exec [OPTIONS] --shell 'LINE'\n";
  }
};

/// What a shell would have acted on: in a single word it shows that one was expected.
bool wants_shell(const std::string& word) {
  return word.find_first_of(" \t\n;|&<>$`*?()\"'\\") != word.npos;
}

}  // namespace

void add_host_options(CLI::App& command, HostWords& hosts, bool with_where) {
  if (with_where) add_value(command, "-w,--hosts", hosts.include, "LIST", "Hosts: gpu[01-64],login0");
  add_value(command, "-x,--exclude", hosts.exclude, "LIST", "Hosts to leave out");
  add_value(command, "--hostfile", hosts.hostfiles, "FILE", "Hosts from a file, as other tools write them");
  add_value(command, "--groups", hosts.groups, "FILE", "Groups for @name from a file (YAML, as ClusterShell's)");
  add_value(command, "--from", hosts.from, "FORMAT",
            "How the hostfile is written: auto, openmpi, deepspeed, mpich, pbs, lsf, slurm, pdsh");
}

Result<void> check_host_options(const CLI::App& command, const HostWords& hosts) {
  const auto empty = [](const std::string& word) { return word.empty(); };
  for (const auto& [name, words] : {std::pair{"--hosts", &hosts.include}, std::pair{"--exclude", &hosts.exclude},
                                    std::pair{"--hostfile", &hosts.hostfiles}, std::pair{"--groups", &hosts.groups}}) {
    if (std::any_of(words->begin(), words->end(), empty))
      return usage(fmt::format("{} is empty", name), lists_options(command));
  }
  return check_from(command, hosts.from);
}

Result<void> check_from(const CLI::App&, const std::optional<std::string>& from) {
  if (!from || launcher::hostfile_format(*from)) return ok;
  const auto meant = nearest(*from, launcher::kHostfileFormats);
  return usage(fmt::format("--from: '{}' is no format of hostfiles", *from),
               meant.empty() ? fmt::format("it is one of {}", fmt::join(launcher::kHostfileFormats, ", "))
                             : fmt::format("did you mean '{}'?", meant));
}

void ExecParser::add_to(CLI::App& parent) {
  app = parent.add_subcommand("exec", "Run a command on all hosts and show what they said, grouped");
  app->formatter(std::make_shared<ExecHelp>());
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kExecFooter);
  add_host_options(*app, values_.hosts, true);
  add_value(*app, "-c,--config", values_.config, "FILE",
            "Configuration: ssh, env, workdir, and hosts if none are named");
  app->add_flag("-s,--shell", values_.shell, "The command is a line for sh on the hosts");
  app->add_flag("-L,--lines", values_.lines, "Lines as they come, each behind its host's name; nothing is gathered");
  app->add_flag("--json", values_.json, "One JSON object: of each host its status, output and times");
  app->add_flag("--table", values_.table, "Then a line for each host on stderr: its end, status and times");
  add_value(*app, "-f,--fanout", fanout_, "N", "Hosts at the same time, connecting or running (default: no limit)");
  add_value(*app, "-u,--timeout", timeout_, "TIME", "Stop the command on a host after this time: 90, 30s, 5m, 2h");
  add_value(*app, "-t,--connect-timeout", connect_timeout_, "TIME", "For each step of connecting (default: 10)");
  add_value(*app, "-l,--user", values_.user, "NAME", "User on the hosts that do not name their own");
  app->add_flag("--ask-pass", values_.ask_pass, "Ask for a password, once; without it nothing is asked");
  add_value(*app, "--workdir", values_.workdir, "DIR", "Where the command starts, on every host");
  add_value(*app, "--log-dir", values_.log_dir, "DIR", "Also keep what the hosts said below this directory");
  add_value(*app, "--env", values_.env, "NAME[=VALUE]",
            "Set a variable for the command; NAME alone passes the value on that it has here");
  app->add_flag("--no-progress", values_.no_progress, "No line on the terminal that is drawn again");
  add_value(*app, "--timeline", values_.timeline, "FILE", "Write how long each host took for what (trace and table)");
  app->add_flag("-q,--quiet", quiet_, "Say nothing but warnings and errors");
  app->add_flag("-v,--verbose", verbose_, "Say more");
  app->add_flag("--dry-run", values_.dry_run, "Print the plan; start nothing, contact no host");
  add_setting_option(*app, values_.settings);
  app->add_flag("--explain", values_.explain, kExplainText);
}

Result<void> ExecParser::check_values() {
  const std::string hint = lists_options(*app);
  if (auto checked = check_host_options(*app, values_.hosts); !checked) return checked.error();
  const auto fanout = count_value(*app, "--fanout", fanout_, kMostAtOnce);
  if (!fanout) return fanout.error();
  const auto timeout = time_value(*app, "--timeout", timeout_);
  if (!timeout) return timeout.error();
  const auto connect = time_value(*app, "--connect-timeout", connect_timeout_);
  if (!connect) return connect.error();
  values_.fanout = *fanout;
  values_.timeout = *timeout;
  values_.connect_timeout = *connect;
  for (const auto& [name, value] : {std::pair{"--config", &values_.config}, std::pair{"--user", &values_.user},
                                    std::pair{"--workdir", &values_.workdir}, std::pair{"--log-dir", &values_.log_dir}})
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  if (app->count("--timeline") > 0 && values_.timeline.empty()) return usage("--timeline is empty", hint);
  if (quiet_ && verbose_) return usage("--quiet and --verbose exclude each other", hint);
  if (values_.lines && values_.json) return usage("--lines and --json exclude each other", hint);
  values_.verbosity = quiet_ ? Verbosity::quiet : verbose_ ? Verbosity::verbose : Verbosity::normal;
  if (auto checked = check_settings(values_.settings, hint); !checked) return checked.error();
  return check_env_entries(values_.env, hint);
}

Result<Options> ExecParser::options(std::vector<std::string> command) {
  if (auto checked = check_values(); !checked) return checked.error();
  if (command.empty()) return usage("exec: no command given", "llmlaunch exec [OPTIONS] PROGRAM [ARGS…]");
  if (command.front().empty())
    return usage("exec: the program's name is empty", "a variable in its place may not be set");
  if (values_.shell) {
    command = {"/bin/sh", "-c", fmt::format("{}", fmt::join(command, " "))};
  } else if (command.size() == 1 && wants_shell(command.front())) {
    return usage(
        fmt::format("exec: '{}' is one word, and no shell takes it apart", command.front()),
        "--shell runs it as a line of sh; or write the program and its arguments without quotes around them all");
  }
  Options options;
  options.action = Options::Action::exec;
  options.exec = std::move(values_);
  options.exec.command = std::move(command);
  return options;
}

}  // namespace llmlaunch::cli
