// The command line over the configuration file: what was typed wins.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/host_filter.hpp"
#include "cli/python_command.hpp"
#include "cli/run.hpp"
#include "launcher/accelerate_hosts.hpp"

namespace llmlaunch::cli {
namespace {

/// Of an endpoint without a port, as torchrun has it.
constexpr std::uint16_t kEndpointPort = 29400;

using launcher::Config;
using launcher::EnvList;
using launcher::HostConfig;

/// The key's value is that of an option now.
void take_typed(Config& config, const std::string& key, const std::string& option) {
  config.places.insert_or_assign(key, launcher::ConfigPlace{option, launcher::ConfigOrigin::option});
}

bool comes_from(const Config& config, std::string_view key, launcher::ConfigOrigin origin) {
  const auto place = config.places.find(key);
  return place != config.places.end() && place->second.origin == origin;
}

/// What the file's num_processes comes to for a choice of its hosts: their slots, and the share of those without. Not
/// known when one is not the file's, or the file's own division leaves a remainder.
std::optional<std::uint32_t> ranks_of(const Config& file, const std::vector<HostConfig>& chosen) {
  std::uint64_t rest = *file.num_processes;
  std::uint64_t without_slots = 0;
  for (const auto& host : file.hosts) {
    rest -= std::min<std::uint64_t>(rest, host.slots.value_or(0));
    if (!host.slots) ++without_slots;
  }
  if (without_slots > 0 && rest % without_slots != 0) return std::nullopt;
  const std::uint64_t share = without_slots > 0 ? rest / without_slots : 0;
  std::uint64_t ranks = 0;
  for (const auto& host : chosen) {
    const bool known =
        std::any_of(file.hosts.begin(), file.hosts.end(), [&](const auto& own) { return own.name == host.name; });
    if (!known) return std::nullopt;
    ranks += host.slots ? *host.slots : share;
  }
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(UINT32_MAX, ranks));
}

/// Hosts instead of those that were there. The file's numbers count the file's hosts; a typed one counts these.
void take_hosts(Config& config, std::vector<HostConfig> hosts, const std::string& option) {
  config.hosts = std::move(hosts);
  const bool typed = comes_from(config, "num_machines", launcher::ConfigOrigin::option) ||
                     comes_from(config, "num_machines", launcher::ConfigOrigin::set);
  if (!typed) config.num_machines.reset();
  config.machine_rank = 0;
  take_typed(config, "llmlaunch.hosts", option);
}

/// `--hosts`, `--hostfile` or `--from`: the hosts of the run. One that the file has as well keeps its address, port,
/// slots and the rest, unless the host file says how many slots.
Result<void> overlay_hosts(Config& config, const RunOptions& options, const HostWorld& world) {
  HostWords words;
  const std::string option = options.hosts ? "--hosts" : options.hostfile ? "--hostfile" : "--from";
  words.from = options.from;
  if (options.hosts) words.include.push_back(*options.hosts);
  if (options.hostfile) words.hostfiles.push_back(*options.hostfile);
  auto choice = choose_hosts(config, words, world, option);
  if (!choice) return choice.error();
  config.notes.insert(config.notes.end(), choice->notes.begin(), choice->notes.end());
  std::vector<HostConfig> hosts = std::move(choice->hosts);
  if (hosts.empty()) return make_error(Errc::usage, option + " names no host");
  if (choice->slots_given) config.num_processes.reset();  // the file's total is of other slots
  if (config.num_processes) {
    if (const auto ranks = ranks_of(config, hosts)) config.num_processes = ranks;
  }
  take_hosts(config, std::move(hosts), option);
  return ok;
}

void overlay_counts(Config& config, const RunOptions& options) {
  if (options.num_processes) {
    config.num_processes = options.num_processes;
    take_typed(config, "num_processes", "--num-processes");
  }
  if (options.nproc_per_node) {
    const std::size_t hosts =
        launcher::runs_per_machine(config) ? *config.num_machines : std::max<std::size_t>(1, config.hosts.size());
    config.num_processes =
        static_cast<std::uint32_t>(std::min<std::size_t>(UINT32_MAX, hosts * *options.nproc_per_node));
    take_typed(config, "num_processes", "--nproc-per-node");
    for (auto& host : config.hosts) host.slots = options.nproc_per_node;
  }
}

/// Those of gpu_ids, or all that this machine shows; 0: it has none.
std::uint32_t gpus_for(const Config& config, const EnvList& environment) {
  if (config.gpu_ids && *config.gpu_ids != "all")
    return 1 + static_cast<std::uint32_t>(std::count(config.gpu_ids->begin(), config.gpu_ids->end(), ','));
  const auto here = devices_here("gpu", config, environment);
  return here ? *here : 0;
}

/// `accelerate launch x.py`: no file, and nothing typed that says what kind of job it is. torchrun's words without a
/// number are one rank, as there.
void count_unasked(Config& config, const RunOptions& options, const EnvList& environment) {
  if (!config.file.empty() || options.torchrun || config.use_cpu || !config.distributed_type.empty()) return;
  const std::uint32_t count = gpus_for(config, environment);
  if (count < 2) return;
  config.num_processes = count;
  config.distributed_type = "MULTI_GPU";
  config.notes.push_back(
      fmt::format("no configuration and no number of ranks: {} ranks, one for each GPU of this machine (-n 1 is one "
                  "rank alone)",
                  count));
}

/// `accelerate launch --multi_gpu` and the like, without a number: a rank for each GPU of this machine, as accelerate
/// counts them. What a file says needs a number in it.
Result<void> count_gpus(Config& config, const RunOptions& options, const EnvList& environment) {
  if (config.num_processes || options.num_processes || options.nproc_per_node) return ok;
  if (!config.hosts.empty() || config.num_machines.value_or(1) != 1) return ok;
  if (!comes_from(config, "distributed_type", launcher::ConfigOrigin::option)) {
    count_unasked(config, options, environment);
    return ok;
  }
  const std::string option = config.places.at("distributed_type").text;
  const std::uint32_t count = gpus_for(config, environment);
  if (count == 0) {
    return make_error(Errc::invalid_config,
                      fmt::format("{}: no number of ranks is given, and this machine has no NVIDIA GPU, or "
                                  "CUDA_VISIBLE_DEVICES hides them",
                                  option),
                      {}, "add --num_processes N");
  }
  config.num_processes = count;
  take_typed(config, "num_processes", option);
  config.notes.push_back(
      fmt::format("{}: {} rank{}, one for each GPU of this machine", option, count, count == 1 ? "" : "s"));
  return ok;
}

/// What torchrun's words say of the machines. Which one this is means nothing where one command starts all.
void overlay_machines(Config& config, const RunOptions& options) {
  config.run_id = options.run_id;
  if (!launcher::runs_per_machine(config)) {
    if (options.is_host)
      config.notes.push_back(options.is_host->option +
                             " has no effect: llmlaunch serves a rendezvous of its own for every run");
    return;
  }
  if (options.is_host) config.is_host = options.is_host->value == "true";
  // accelerate writes machine_rank: 0 into every file; torchrun's dynamic rendezvous knows no such number.
  if (!options.endpoint) return;
  if (!config.places.contains("main_process_port")) config.main_process_port = kEndpointPort;
  if (config.machine_rank == 0 && comes_from(config, "machine_rank", launcher::ConfigOrigin::file))
    config.places.erase("machine_rank");
}

}  // namespace

Result<void> overlay_env(Config& config, const std::string& entry, const EnvList& environment) {
  const auto equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  std::string value;
  if (equals != entry.npos) {
    value = entry.substr(equals + 1);
  } else {
    const auto here =
        std::find_if(environment.begin(), environment.end(), [&](const auto& own) { return own.first == name; });
    if (here == environment.end()) {
      return make_error(Errc::usage, fmt::format("--env {}: it is not set here", name), {},
                        fmt::format("give it a value: --env {}=…", name));
    }
    value = here->second;
  }
  // What was typed also wins over a host's own setting.
  const auto is_it = [&](const auto& own) { return own.first == name; };
  std::erase_if(config.rank_env, is_it);
  for (auto& host : config.hosts) {
    std::erase_if(host.env, is_it);
    std::erase_if(host.rank_env, is_it);
  }
  config.env.emplace_back(name, std::move(value));
  return ok;
}

namespace {

void overlay_logs(Config& config, const RunOptions& options) {
  launcher::LogSettings& logs = config.logs;
  if (options.prefix) logs.prefix = options.prefix;
  logs.color = options.color.value_or(logs.color);
  logs.color_by = options.color_by.value_or(logs.color_by);
  logs.updates_per_second = options.updates_per_second.value_or(logs.updates_per_second);
  logs.fold_lines = logs.fold_lines || options.fold_lines;
  if (options.ranks.empty()) return;
  logs.ranks = options.ranks;
  take_typed(config, "llmlaunch.logs.ranks", "--ranks");
}

}  // namespace

Result<Config> with_options(Config config, const RunOptions& typed, const EnvList& environment,
                            const launcher::HostSources& sources) {
  RunOptions options = typed;
  const bool one_by_one = launcher::runs_per_machine(config);
  const std::string note_of_rank = launcher::note_of_machine_rank(config);
  const bool has_noted_backend = launcher::note_of_backend(config).has_value();
  const bool has_rank = config.machine_rank != 0;
  if (options.hosts || options.hostfile || options.from) {
    if (auto done = overlay_hosts(config, options, {sources, environment}); !done) return done.error();
  } else if (auto done = launcher::take_accelerate_hosts(config, sources); !done) {
    return done.error();
  }
  if (one_by_one && has_rank && !config.hosts.empty()) config.notes.push_back(note_of_rank);
  if (auto said = launcher::note_of_backend(config); said && !has_noted_backend) config.notes.push_back(*said);
  if (filters_hosts(options)) {
    auto hosts = filtered_hosts(config, options, {sources, environment});
    if (!hosts) return hosts.error();
    if (config.num_processes) config.num_processes = ranks_of(config, *hosts);
    take_hosts(config, std::move(*hosts), options.include ? "--include" : options.exclude ? "--exclude" : "--nodes");
  }
  if (!options.nproc_device.empty()) {
    const auto count = devices_here(options.nproc_device, config, environment);
    if (!count) return count.error();
    options.nproc_per_node = *count;
  }
  if (auto done = count_gpus(config, options, environment); !done) return done.error();
  overlay_counts(config, options);
  overlay_machines(config, options);
  config.notes.insert(config.notes.end(), options.notes.begin(), options.notes.end());
  config.timeouts.rendezvous = options.rendezvous_timeout.value_or(config.timeouts.rendezvous);
  config.timeouts.grace = options.grace.value_or(config.timeouts.grace);
  if (options.log_dir) config.log_dir = *options.log_dir;
  config.log_dir = expand_home(config.log_dir);
  overlay_logs(config, options);
  if (options.workdir) {
    config.workdir = options.workdir;
    for (auto& host : config.hosts) host.workdir.reset();
  }
  if (options.stdin_to) config.process.stdin_to = *options.stdin_to;
  if (options.cpu_bind) {
    config.process.cpu_bind = options.cpu_bind;
    take_typed(config, "llmlaunch.cpu_bind", "--cpu-bind");
  }
  auto& signals = config.process.forward_signals;
  signals.insert(signals.end(), options.forward_signals.begin(), options.forward_signals.end());
  if (options.timeout) config.timeouts.run = options.timeout;
  for (const auto& entry : options.env) {
    if (auto done = overlay_env(config, entry, environment); !done) return done.error();
  }
  return config;
}

}  // namespace llmlaunch::cli
