// The command line of exec over the configuration; pure but for what `HostWorld` reads.
#include <fmt/format.h>

#include <algorithm>

#include "cli/exec.hpp"
#include "cli/head.hpp"
#include "cli/run.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;

/// Everything that accelerate's half says is about ranks.
void forget_ranks(Config& config) {
  config.num_processes.reset();
  config.num_machines.reset();
  config.machine_rank = 0;
  config.main_process_ip.reset();
  config.main_process_port = 0;
  config.notes.clear();
  config.timeouts.run.reset();  // a training job's
  config.process.stdin_to = launcher::StdinTo::none;
  config.process.cpu_bind = launcher::agent::CpuBind::none;  // of ranks that share a host
  config.logs.ranks.clear();
  for (auto& host : config.hosts) host.slots = 1;
}

std::string shape_of(const std::string& name) {
  std::string shape;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || !shape.ends_with('0')) shape += digit ? '0' : c;
  }
  return shape;
}

}  // namespace

Result<Config> with_exec_options(Config config, const ExecOptions& options, const HostWorld& world,
                                 const std::string& command) {
  config.notes.clear();  // of ranks, as their number is
  config.num_processes.reset();
  if (auto taken = take_sections_hosts(config, options.hosts, world); !taken) return taken.error();
  for (const auto& note : config.notes) log_warning("{}", printable(note));
  auto choice = choose_hosts(config, options.hosts, world, "--hosts");
  if (!choice) return choice.error();
  for (const auto& note : choice->notes) log_warning("{}", printable(note));
  if (choice->hosts.empty()) {
    const bool nothing_said = !choice->named && config.hosts.empty();
    return make_error(Errc::usage, command + (nothing_said ? ": no hosts are named" : ": no host is left"), {},
                      nothing_said ? "-w names hosts, --hostfile or WCOLL a file of them, --config a configuration"
                                   : "what is named is also left out, by -x, '!' or '-', or a file is empty");
  }
  if (auto checked = check_named_once(choice->hosts); !checked) return checked.error();
  config.hosts = std::move(choice->hosts);
  forget_ranks(config);
  if (options.user) config.ssh.user = options.user;
  if (options.workdir) {
    config.workdir = options.workdir;
    for (auto& host : config.hosts) host.workdir.reset();
  }
  if (options.connect_timeout) config.timeouts.connect = *options.connect_timeout;
  config.log_dir = expand_home(options.log_dir.value_or(""));
  for (const auto& entry : options.env)
    if (auto done = overlay_env(config, entry, world.environment); !done) return done.error();
  return config;
}

bool is_glob_accident(const ExecOptions& options, bool (*exists)(const std::string& path)) {
  if (options.hosts.include.size() != 1 || options.shell) return false;
  const std::string& host = options.hosts.include.front();
  const std::string& program = options.command.front();
  const bool alike = host != program && shape_of(host) == shape_of(program) && shape_of(host) != host;
  return alike && exists(host) && exists(program);
}

}  // namespace llmlaunch::cli
