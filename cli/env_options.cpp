// `llmlaunch env`: this machine, or all hosts that are named.
#include "cli/env_options.hpp"

#include <fmt/format.h>

#include "cli/exec_options.hpp"
#include "cli/option_values.hpp"

namespace llmlaunch::cli {
namespace {

constexpr const char* kEnvFooter =
    "Without --all and without hosts: this machine. Hosts: --hosts and --hostfile, else those of --config, else the\n"
    "file that WCOLL names. A fact in which hosts differ is marked; 69 when a host was not reached.";

}  // namespace

void EnvParser::add_to(CLI::App& parent) {
  app = parent.add_subcommand("env", "Show GPUs, driver, network and limits of this machine or of all hosts");
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kEnvFooter);
  app->add_flag("-a,--all", values_.all, "All hosts: facts × hosts, equal hosts together, differences marked");
  add_host_options(*app, values_.hosts, true);
  add_value(*app, "-c,--config", values_.config, "FILE", "Configuration: ssh, and hosts if none are named");
  app->add_flag("--json", values_.json, "One JSON object: of each host its facts, or why it was not reached");
  add_value(*app, "-t,--connect-timeout", connect_timeout_, "TIME", "For each step of connecting (default: 10)");
  add_value(*app, "-l,--user", values_.user, "NAME", "User on the hosts that do not name their own");
  app->add_flag("--ask-pass", values_.ask_pass, "Ask for a password, once; without it nothing is asked");
  app->add_flag("--no-progress", values_.no_progress, "Do not show on the terminal how far the hosts are");
  app->add_flag("-q,--quiet", quiet_, "Say nothing but warnings and errors");
  app->add_flag("-v,--verbose", verbose_, "Say more");
}

Result<Options> EnvParser::options(const std::vector<std::string>& rest) {
  const std::string hint = lists_options(*app);
  if (!rest.empty()) return usage(fmt::format("env: '{}' is no option", rest.front()), hint);
  if (auto checked = check_host_options(*app, values_.hosts); !checked) return checked.error();
  const auto connect = time_value(*app, "--connect-timeout", connect_timeout_);
  if (!connect) return connect.error();
  values_.connect_timeout = *connect;
  for (const auto& [name, value] : {std::pair{"--config", &values_.config}, std::pair{"--user", &values_.user}})
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  if (quiet_ && verbose_) return usage("--quiet and --verbose exclude each other", hint);
  values_.verbosity = quiet_ ? Verbosity::quiet : verbose_ ? Verbosity::verbose : Verbosity::normal;
  Options options;
  options.action = Options::Action::env;
  options.env = std::move(values_);
  return options;
}

}  // namespace llmlaunch::cli
