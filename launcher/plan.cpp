// Who runs what, where, with which environment: all the arithmetic of a launch, and nothing but arithmetic.
#include "launcher/plan.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "launcher/accelerate_env.hpp"
#include "launcher/host_twins.hpp"
#include "launcher/plan_env.hpp"

namespace llmlaunch::launcher {
namespace {

// One host has at most this many ranks (the agent's limit), and a job at most this many: each rank costs the head about
// 2 KB of plan before anything runs.
constexpr std::uint64_t kMaxRanksPerHost = 4096;
constexpr std::uint64_t kMaxWorldSize = 262'144;

Error wrong(const Config& config, std::string_view key, std::string what, std::string hint = {}) {
  return make_error(Errc::invalid_config, std::move(what), place_of(config, key), std::move(hint));
}

std::string counted(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

/// The hosts as configured, the machines that are started one by one, or this machine.
std::vector<HostConfig> configured_hosts(const Config& config, StartPolicy policy) {
  if (!config.hosts.empty()) return config.hosts;
  if (runs_per_machine(config) && policy == StartPolicy::gang) {
    std::vector<HostConfig> machines(*config.num_machines);
    for (std::size_t i = 0; i < machines.size(); ++i) machines[i].name = fmt::format("machine{}", i);
    return machines;
  }
  HostConfig here;
  here.name = "localhost";
  return {here};
}

Result<void> check_hosts(const Config& config, const std::vector<HostConfig>& hosts) {
  std::unordered_set<std::string_view> names;
  for (const auto& host : hosts) {
    if (names.insert(host.name).second) continue;
    return make_error(Errc::invalid_config, fmt::format("host '{}' is listed twice", host.name),
                      host.where.empty() ? place_of(config, "llmlaunch.hosts") : host.where,
                      "for more ranks on one host set its 'slots'");
  }
  const std::uint32_t machines = config.num_machines.value_or(static_cast<std::uint32_t>(hosts.size()));
  if (config.hosts.empty() && machines > 1 && hosts.size() == 1) {
    return wrong(config, "num_machines", fmt::format("num_machines is {}, but no hosts are given", machines),
                 "list the machines under llmlaunch.hosts, or with --hosts; or start each by itself, with "
                 "main_process_ip and a machine_rank");
  }
  if (machines != hosts.size()) {
    return wrong(config, "num_machines",
                 fmt::format("num_machines is {}, but {} given", machines,
                             hosts.size() == 1 ? "1 host is" : fmt::format("{} hosts are", hosts.size())),
                 "make them equal, or leave num_machines out");
  }
  if (config.machine_rank >= hosts.size()) {
    return wrong(config, "machine_rank",
                 fmt::format("machine_rank is {}, but there {}", config.machine_rank,
                             hosts.size() == 1 ? "is only 1 host" : fmt::format("are only {} hosts", hosts.size())),
                 "leave it out: the order of the hosts is the order of the ranks");
  }
  return ok;
}

/// Hosts without slots and no total: one rank each, if that can be what was meant.
Result<std::uint64_t> default_share(const Config& config) {
  const std::string& type = config.distributed_type;
  if (type.empty() || type == "NO" || type == "MULTI_CPU") return std::uint64_t{1};
  return wrong(config, "distributed_type",
               fmt::format("distributed_type {} needs num_processes, the ranks on all hosts together", type),
               "add num_processes, or slots for each host");
}

/// The hosts' slots, and how many hosts have none.
struct Slots {
  std::uint64_t sum = 0;
  std::uint64_t hosts_with = 0;
  std::uint64_t hosts_without = 0;
};

Slots slots_of(const std::vector<HostConfig>& hosts) {
  Slots slots;
  for (const auto& host : hosts) {
    slots.sum += host.slots.value_or(0);
    ++(host.slots ? slots.hosts_with : slots.hosts_without);
  }
  return slots;
}

/// A number of ranks that the hosts can share, not above `total` where there is one.
std::uint64_t possible(std::uint64_t total, const Slots& slots) {
  if (slots.hosts_without == 0) return slots.sum;
  const std::uint64_t rest = total > slots.sum ? total - slots.sum : 0;
  return slots.sum + std::max<std::uint64_t>(1, rest / slots.hosts_without) * slots.hosts_without;
}

/// num_processes shared among the hosts without slots. A remainder is an error: nobody said which host gets it.
Result<std::uint64_t> share_of_total(const Config& config, std::uint64_t total, const Slots& slots) {
  const auto refuse = [&](std::string what, std::string hint) {
    const bool typed =
        place_of(config, "llmlaunch.hosts").starts_with("--") || place_of(config, "num_processes").starts_with("--");
    if (typed)
      hint = fmt::format("-n is the number of ranks on all hosts together, for example -n {}", possible(total, slots));
    return wrong(config, "num_processes", std::move(what), std::move(hint));
  };
  const std::string without = counted(slots.hosts_without, "host");
  const std::string with = counted(slots.sum, "rank") + " on hosts with slots";
  if (slots.hosts_without == 0) {
    if (slots.sum == total) return std::uint64_t{0};
    return refuse(fmt::format("num_processes is {}, but the slots of {} add up to {}", total,
                              counted(slots.hosts_with, "host"), slots.sum),
                  fmt::format("set num_processes: {}, or change the slots", slots.sum));
  }
  if (slots.hosts_with == 0) {
    if (total < slots.hosts_without) {
      return refuse(fmt::format("num_processes {} is less than one rank for each of {}", total, without),
                    "it counts the ranks of all hosts together");
    }
    if (total % slots.hosts_without == 0) return total / slots.hosts_without;
    return refuse(fmt::format("num_processes {} is not divisible by {}", total, without),
                  "set slots for each host, or change num_processes");
  }
  const std::uint64_t rest = total > slots.sum ? total - slots.sum : 0;
  if (rest < slots.hosts_without) {
    return refuse(fmt::format("num_processes {} less {} leaves {} for {} without slots", total, with, rest, without),
                  "num_processes counts the ranks of all hosts together, those with slots included");
  }
  if (rest % slots.hosts_without == 0) return rest / slots.hosts_without;
  return refuse(
      fmt::format("num_processes {} less {} = {} is not divisible by {} without slots", total, with, rest, without),
      "set slots for each host, or change num_processes");
}

/// Ranks on a host without slots.
Result<std::uint64_t> share_of(const Config& config, const std::vector<HostConfig>& hosts) {
  const Slots slots = slots_of(hosts);
  if (config.num_processes) return share_of_total(config, *config.num_processes, slots);
  if (slots.hosts_without == 0) return std::uint64_t{0};
  if (slots.hosts_with == 0) return default_share(config);
  const auto first = std::find_if(hosts.begin(), hosts.end(), [](const auto& host) { return !host.slots; });
  return make_error(Errc::invalid_config,
                    fmt::format("host '{}' has no slots, and there is no num_processes to share", first->name),
                    first->where.empty() ? config.file : first->where, "set slots for it, or add num_processes");
}

/// Ranks on each host.
Result<std::vector<std::uint32_t>> share_out(const Config& config, const std::vector<HostConfig>& hosts) {
  const auto share = share_of(config, hosts);
  if (!share) return share.error();
  std::vector<std::uint32_t> counts;
  std::uint64_t world = 0;
  for (const auto& host : hosts) {
    const std::uint64_t count = host.slots ? *host.slots : *share;
    if (count > kMaxRanksPerHost) {
      return wrong(config, "num_processes",
                   fmt::format("{} ranks on host '{}': at most {} are possible", count, host.name, kMaxRanksPerHost));
    }
    world += count;
    counts.push_back(static_cast<std::uint32_t>(count));
  }
  if (world > kMaxWorldSize) {
    return wrong(config, "num_processes", fmt::format("{} ranks: at most {} are possible", world, kMaxWorldSize));
  }
  return counts;
}

/// This machine needs no ssh, unless the entry says how to log in to it.
bool is_local(const HostConfig& host) {
  return host.name == "localhost" && !host.address && !host.user && !host.port && host.identity_files.empty() &&
         !host.proxy_jump;
}

/// The bytes of an address written as digits, IPv4 within IPv6 as IPv4; empty for a name.
std::string address_bytes(const std::string& text) {
  in6_addr bytes{};
  if (::inet_pton(AF_INET, text.c_str(), &bytes) == 1) return {reinterpret_cast<const char*>(&bytes), 4};
  if (::inet_pton(AF_INET6, text.c_str(), &bytes) != 1) return {};
  const std::string six(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  return IN6_IS_ADDR_V4MAPPED(&bytes) ? six.substr(12) : six;
}

/// Above this a typing error is likelier than a job; each machine costs machine 0 a connection.
constexpr std::uint32_t kMostMachines = 4096;

/// Which machine of a job whose machines are started one by one this is.
Result<PerMachine> per_machine_of(const Config& config, const HeadFacts& head) {
  const std::uint32_t machines = *config.num_machines;
  if (machines > kMostMachines)
    return wrong(config, "num_machines",
                 fmt::format("num_machines is {}: at most {} can be started one by one", machines, kMostMachines));
  if (!config.places.contains("machine_rank")) {
    return wrong(
        config, "num_machines",
        fmt::format("num_machines is {} and no hosts are given: which of the machines is this?", machines),
        fmt::format("add --machine_rank 0 where main_process_ip {} is, and the others up to {} elsewhere (srun: "
                    "--machine_rank $SLURM_NODEID); or list the machines under llmlaunch.hosts, and one "
                    "command starts them all",
                    *config.main_process_ip, machines - 1));
  }
  if (config.machine_rank >= machines) {
    return wrong(config, "machine_rank",
                 fmt::format("machine_rank is {}, but num_machines is {}", config.machine_rank, machines),
                 fmt::format("it must be 0 … {}", machines - 1));
  }
  PerMachine here;
  here.machine_rank = config.machine_rank;
  const std::string wanted = address_bytes(*config.main_process_ip);
  const bool loopback = wanted.size() == 4 && wanted[0] == 127;
  const bool own = std::any_of(head.addresses.begin(), head.addresses.end(),
                               [&](const std::string& address) { return address_bytes(address) == wanted; });
  // Not a link-local one, which means nothing without its interface.
  if (!wanted.empty() && (loopback || own) && !config.main_process_ip->starts_with("fe80:"))
    here.bind_address = *config.main_process_ip;
  return here;
}

/// "~" and "~/x" as a host's agent understands them, which without ssh does not stand in the home directory.
std::string workdir_of(const Config& config, const HostConfig& from, bool local, const HeadFacts& head) {
  const std::string written = from.workdir.value_or(config.workdir.value_or(""));
  if (written != "~" && !written.starts_with("~/")) return written;
  const std::string below = written.substr(std::min(written.find_first_not_of('/', 1), written.size()));
  if (!local) return below.empty() ? below : "~/" + below;
  const std::string* home = value_of(head.environment, "HOME");
  if (home == nullptr) return "./" + written;
  return below.empty() ? *home : *home + "/" + below;
}

/// Name, way and place of a host; its ranks and environment come later.
HostPlan host_plan(const Config& config, const HostConfig& from, std::size_t index, bool per_machine,
                   const HeadFacts& head) {
  HostPlan host;
  host.name = from.name;
  host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
  host.local = per_machine ? index == 0 : is_local(from);
  host.calls_in = per_machine && index > 0;
  host.address = from.address.value_or(from.name);
  host.user = from.user ? from.user : config.ssh.user;
  host.port = from.port ? from.port : config.ssh.port;
  host.identity_files = from.identity_files.empty() ? config.ssh.identity_files : from.identity_files;
  host.workdir = workdir_of(config, from, host.local, head);
  host.proxy_jump = from.proxy_jump ? from.proxy_jump : config.ssh.proxy_jump;
  host.setup = config.process.setup;
  host.setup.insert(host.setup.end(), from.setup.begin(), from.setup.end());
  return host;
}

std::vector<RankPlan> ranks_from(std::uint32_t first, std::uint32_t count) {
  std::vector<RankPlan> ranks;
  ranks.reserve(count);
  for (std::uint32_t local = 0; local < count; ++local) {
    ranks.push_back({Rank{first + local}, local, {}});
  }
  return ranks;
}

/// The rendezvous is served here, wherever main_process_ip points. A name is not looked up: that may block.
void note_foreign_address(const Config& config, const HeadFacts& head, std::vector<std::string>& notes) {
  if (!config.main_process_ip || head.addresses.empty()) return;
  const auto is_loopback = [](const std::string& bytes) { return bytes.size() == 4 && bytes[0] == 127; };
  const std::string wanted = address_bytes(*config.main_process_ip);
  if (wanted.empty() || is_loopback(wanted)) return;  // all of 127.0.0.0/8 is this machine
  std::string choice;
  for (const std::string& own : head.addresses) {
    const std::string bytes = address_bytes(own);
    if (bytes == wanted) return;
    const bool for_hosts = !is_loopback(bytes) && own != "::1" && !own.starts_with("fe80:");
    if (for_hosts) choice += (choice.empty() ? ", or take one of its own: " : ", ") + own;
  }
  if (runs_per_machine(config)) {
    notes.push_back(
        fmt::format("{}: main_process_ip {} is no address of this machine, by which the others reach machine 0",
                    place_of(config, "main_process_ip"), *config.main_process_ip));
    return;
  }
  notes.push_back(
      fmt::format("{}: main_process_ip {} is no address of this machine, where the rendezvous is; leave it "
                  "out{}",
                  place_of(config, "main_process_ip"), *config.main_process_ip, choice));
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
  plan.notes = config.notes;
  plan.secrets = config.secrets;
  if (runs_per_machine(config) && command.policy == StartPolicy::gang) {
    const auto here = per_machine_of(config, head);
    if (!here) return here.error();
    plan.per_machine = *here;
  }
  if (!plan.per_machine || plan.per_machine->machine_rank == 0) note_foreign_address(config, head, plan.notes);
  plan.argv = command.argv;
  plan.program = command.program;
  plan.python = command.python;
  plan.rendezvous_address = config.main_process_ip.value_or("");
  plan.rendezvous_port = config.main_process_port;
  if (plan.per_machine && plan.rendezvous_port == 0) plan.rendezvous_port = kDefaultMainPort;
  plan.use_agent_store = config.use_agent_store;
  plan.store_allow_from = config.store_allow_from;
  plan.ssh = config.ssh;
  plan.timeouts = config.timeouts;
  plan.log_dir = config.log_dir;
  plan.logs = config.logs;
  plan.policy = command.policy;
  plan.hosts.reserve(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    plan.hosts.push_back(host_plan(config, hosts[i], i, plan.per_machine.has_value(), head));
    plan.hosts.back().ranks = ranks_from(plan.world_size, (*counts)[i]);
    plan.world_size += (*counts)[i];
  }
  // The commands of an exec owe each other nothing.
  if (plan.policy == StartPolicy::gang) note_host_twins(hosts, plan, plan.notes);
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
