// Who runs what, where, with which environment: all the arithmetic of a launch, and nothing but arithmetic.
#include "launcher/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "launcher/accelerate_env.hpp"
#include "launcher/host_twins.hpp"
#include "launcher/plan_env.hpp"
#include "launcher/plan_machines.hpp"
#include "launcher/plan_shares.hpp"

namespace llmlaunch::launcher {
namespace {

/// This machine needs no ssh, unless the entry says how to log in to it.
bool is_local(const HostConfig& host) {
  return host.name == "localhost" && !host.address && !host.user && !host.port && host.identity_files.empty() &&
         !host.proxy_jump;
}

bool below_home(const std::string& directory) {
  return directory == "~" || directory.starts_with("~/");
}

/// cron, systemd and containers may start a program without HOME.
std::string home_of(const HeadFacts& head) {
  const std::string* home = value_of(head.environment, "HOME");
  return home != nullptr && !home->empty() ? *home : head.home;
}

/// "~" and "~/x" as a host's agent understands them, which without ssh does not stand in the home directory.
std::string workdir_of(const Config& config, const HostConfig& from, const HostPlan& host, const HeadFacts& head) {
  const std::string written = from.workdir.value_or(config.workdir.value_or(""));
  if (!below_home(written)) return written;
  const std::string below = written.substr(std::min(written.find_first_not_of('/', 1), written.size()));
  if (host.calls_in) return below.empty() ? "~" : "~/" + below;  // not where its llmlaunch was started
  if (!host.local) return below.empty() ? below : "~/" + below;
  const std::string home = home_of(head);
  if (home.empty()) return written;  // which check_home refuses
  return below.empty() ? home : home + "/" + below;
}

/// Name, way and place of a host; its ranks and environment come later.
HostPlan host_plan(const Config& config, const HostConfig& from, std::size_t index,
                   const std::optional<PerMachine>& per_machine, const HeadFacts& head) {
  HostPlan host;
  host.name = from.name;
  host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
  host.local = per_machine ? index == 0 : is_local(from);
  host.calls_in = per_machine && index > 0;
  host.any_machine = host.calls_in && per_machine->gives_places;
  host.address = from.address.value_or(from.name);
  host.user = from.user ? from.user : config.ssh.user;
  host.port = from.port ? from.port : config.ssh.port;
  host.identity_files = from.identity_files.empty() ? config.ssh.identity_files : from.identity_files;
  host.workdir = workdir_of(config, from, host, head);
  host.proxy_jump = from.proxy_jump ? from.proxy_jump : config.ssh.proxy_jump;
  host.setup = config.process.setup;
  host.setup.insert(host.setup.end(), from.setup.begin(), from.setup.end());
  return host;
}

Result<void> check_home(const Config& config, const HostConfig& from, const HostPlan& host) {
  if (!host.local || !below_home(host.workdir)) return ok;
  Error error = wrong(config, "llmlaunch.workdir",
                      fmt::format("workdir '{}': this machine's home directory is not known: HOME is not set, and the "
                                  "user database has none for this user",
                                  host.workdir),
                      "set HOME, or write the directory out");
  if (from.workdir && !from.where.empty()) error.where = from.where;
  return error;
}

std::vector<RankPlan> ranks_from(std::uint32_t first, std::uint32_t count) {
  std::vector<RankPlan> ranks;
  ranks.reserve(count);
  for (std::uint32_t local = 0; local < count; ++local) {
    ranks.push_back({Rank{first + local}, local, {}});
  }
  return ranks;
}

}  // namespace

Result<LaunchPlan> make_plan(const Config& config, const Command& command, const HeadFacts& head) {
  if (command.argv.empty()) return make_error(Errc::usage, "no program to run");
  const auto hosts = configured_hosts(config, command.policy);
  if (auto checked = check_hosts(config, hosts); !checked) return checked.error();
  const auto counts = share_out(config, hosts);
  if (!counts) return counts.error();

  LaunchPlan plan;
  plan.job_id = head.job_id;
  plan.run_id = config.run_id;
  plan.notes = config.notes;
  plan.secrets = config.secrets;
  if (runs_per_machine(config) && command.policy == StartPolicy::gang) {
    const auto here = per_machine_of(config, head, plan.notes);
    if (!here) return here.error();
    plan.per_machine = *here;
  }
  if (!plan.per_machine || plan.per_machine->machine_rank == 0u) note_foreign_address(config, head, plan.notes);
  plan.argv = command.argv;
  plan.program = command.program;
  plan.python = command.python;
  plan.rendezvous_address = config.main_process_ip.value_or("");
  plan.rendezvous_port = config.main_process_port;
  if (plan.per_machine && plan.rendezvous_port == 0) plan.rendezvous_port = kDefaultMainPort;
  plan.use_agent_store = config.use_agent_store;
  plan.rendezvous_via = config.rendezvous_via;
  if (auto checked = check_via_ssh(config, plan); !checked) return checked.error();
  plan.store_allow_from = config.store_allow_from;
  plan.ssh = config.ssh;
  plan.timeouts = config.timeouts;
  plan.log_dir = config.log_dir;
  plan.logs = config.logs;
  plan.policy = command.policy;
  plan.hosts.reserve(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    plan.hosts.push_back(host_plan(config, hosts[i], i, plan.per_machine, head));
    if (auto known = check_home(config, hosts[i], plan.hosts.back()); !known) return known.error();
    plan.hosts.back().ranks = ranks_from(plan.world_size, (*counts)[i]);
    plan.world_size += (*counts)[i];
  }
  // The commands of an exec owe each other nothing.
  if (plan.policy == StartPolicy::gang) {
    note_host_twins(hosts, plan, plan.notes);
    note_port_of_machines(config, plan, plan.notes);
    note_cpu_affinity(config, plan.notes);
  }
  if (auto shown = check_ranks(config.logs.ranks, plan.world_size); !shown) {
    constexpr const char* kOption = "--ranks";  // the only place that is a wrong command line and no wrong setting
    if (place_of(config, "llmlaunch.logs.ranks") == kOption)
      return make_error(Errc::usage, shown.error().what, kOption, shown.error().hint);
    return wrong(config, "llmlaunch.logs.ranks", "ranks to be shown: " + shown.error().what, shown.error().hint);
  }
  plan.process = config.process;
  plan.process.cpu_bind = cpu_bind_of(config);
  const EnvList picked = forwarded(config, head, plan.notes);
  EnvList accelerate;  // of the host before, and of this one when it has as many ranks
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    HostPlan& host = plan.hosts[i];
    if (i == 0 || host.ranks.size() != plan.hosts[i - 1].ranks.size())
      accelerate = accelerate_env(config, host.ranks.size());
    host.env = env_of_host(config, hosts[i], host, plan, picked, accelerate);
    for (RankPlan& rank : host.ranks) rank.env = env_of_rank(config, hosts[i], host, rank, plan);
    if (plan.policy == StartPolicy::each_host) continue;  // it has no world, and its command is no worker
    host.choose_omp_threads = !has_omp_threads(host);
    note_few_devices(host, plan.notes);
  }
  return plan;
}

}  // namespace llmlaunch::launcher
