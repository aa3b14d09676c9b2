// Who runs what, where, with which environment: all the arithmetic of a launch, and nothing but arithmetic.
#include "launcher/plan.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

// One host has at most this many ranks (the agent's limit), and a job at most this many: each rank costs the head about
// 2 KB of plan before anything runs.
constexpr std::uint64_t kMaxRanksPerHost = 4096;
constexpr std::uint64_t kMaxWorldSize = 262'144;

std::string place_of(const Config& config, std::string_view key) {
  const auto found = config.places.find(key);
  return found == config.places.end() ? config.file : found->second;
}

Error wrong(const Config& config, std::string_view key, std::string what, std::string hint = {}) {
  return make_error(Errc::invalid_config, std::move(what), place_of(config, key), std::move(hint));
}

std::string counted(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

/// The hosts as configured, or this machine.
std::vector<HostConfig> hosts_of(const Config& config) {
  if (!config.hosts.empty()) return config.hosts;
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
  if (config.hosts.empty() && machines > 1) {
    return wrong(config, "num_machines", fmt::format("num_machines is {}, but no hosts are given", machines),
                 "list the machines under llmlaunch.hosts, or with --hosts");
  }
  if (machines != hosts.size()) {
    return wrong(config, "num_machines",
                 fmt::format("num_machines is {}, but {} given", machines,
                             hosts.size() == 1 ? "1 host is" : fmt::format("{} hosts are", hosts.size())),
                 "make them equal, or leave num_machines out");
  }
  if (config.machine_rank >= hosts.size()) {
    return wrong(config, "machine_rank", fmt::format("machine_rank is {}, but there {}", config.machine_rank,
                                                     hosts.size() == 1 ? "is only 1 host" : fmt::format("are only {} hosts", hosts.size())),
                 "leave it out: the order of the hosts is the order of the ranks");
  }
  return ok;
}

/// Hosts without slots and no total: one rank each, if that can be what was meant.
Result<std::uint64_t> default_share(const Config& config) {
  const std::string& type = config.distributed_type;
  if (type.empty() || type == "NO" || type == "MULTI_CPU") return std::uint64_t{1};
  return wrong(config, "distributed_type", fmt::format("distributed_type {} needs num_processes, the ranks on all hosts together", type),
               "add num_processes, or slots for each host");
}

/// Ranks on each host.
Result<std::vector<std::uint32_t>> share_out(const Config& config, const std::vector<HostConfig>& hosts) {
  std::uint64_t with_slots = 0;
  std::uint64_t slots = 0;
  for (const auto& host : hosts) {
    with_slots += host.slots ? 1 : 0;
    slots += host.slots.value_or(0);
  }
  const std::uint64_t others = hosts.size() - with_slots;
  std::uint64_t share = 0;
  if (config.num_processes) {
    const std::uint64_t total = *config.num_processes;
    if (others == 0 && slots != total) {
      return wrong(config, "num_processes",
                   fmt::format("num_processes is {}, but the slots of {} add up to {}", total, counted(hosts.size(), "host"), slots),
                   fmt::format("set num_processes: {}, or change the slots", slots));
    }
    if (others > 0) {
      if (slots + others > total) {
        if (with_slots == 0) {
          return wrong(config, "num_processes",
                       fmt::format("num_processes {} is less than one rank for each of {}", total, counted(others, "host")));
        }
        return wrong(config, "num_processes",
                     fmt::format("num_processes {} less {} on hosts with slots leaves {} for {} without slots", total,
                                 counted(slots, "rank"), total > slots ? total - slots : 0, counted(others, "host")));
      }
      if ((total - slots) % others != 0) {
        const std::string rest = with_slots == 0 ? fmt::format("num_processes {}", total)
                                                 : fmt::format("num_processes {} less {} on hosts with slots = {}", total,
                                                               counted(slots, "rank"), total - slots);
        return wrong(config, "num_processes",
                     fmt::format("{} is not divisible by {}{}", rest, counted(others, "host"), with_slots == 0 ? "" : " without slots"),
                     "set slots for each host, or change num_processes");
      }
      share = (total - slots) / others;
    }
  } else if (others > 0) {
    if (with_slots > 0) {
      const auto first = std::find_if(hosts.begin(), hosts.end(), [](const auto& host) { return !host.slots; });
      return make_error(Errc::invalid_config, fmt::format("host '{}' has no slots, and there is no num_processes to share", first->name),
                        first->where.empty() ? config.file : first->where, "set slots for it, or add num_processes");
    }
    const auto fallback = default_share(config);
    if (!fallback) return fallback.error();
    share = *fallback;
  }
  std::vector<std::uint32_t> counts;
  std::uint64_t world = 0;
  for (const auto& host : hosts) {
    const std::uint64_t count = host.slots.value_or(static_cast<std::uint32_t>(std::min<std::uint64_t>(share, UINT32_MAX)));
    if (count > kMaxRanksPerHost) {
      return wrong(config, "num_processes", fmt::format("{} ranks on host '{}': at most {} are possible", count, host.name, kMaxRanksPerHost));
    }
    world += count;
    counts.push_back(static_cast<std::uint32_t>(count));
  }
  if (world > kMaxWorldSize) {
    return wrong(config, "num_processes", fmt::format("{} ranks: at most {} are possible", world, kMaxWorldSize));
  }
  return counts;
}

/// Layers of variables; a later value of a name wins, at the place of the first.
class Environment {
 public:
  void set(const std::string& name, std::string value) {
    const auto [found, added] = index_.emplace(name, list_.size());
    if (added) {
      list_.emplace_back(name, std::move(value));
    } else {
      list_[found->second].second = std::move(value);
    }
  }
  void set_all(const EnvList& list) {
    for (const auto& [name, value] : list) set(name, value);
  }
  bool has(const std::string& name) const { return index_.count(name) != 0; }
  EnvList take() && { return std::move(list_); }

 private:
  EnvList list_;
  std::unordered_map<std::string, std::size_t> index_;
};

/// What forward_env picks from the head's environment. A plain name that is not set there is noted; a pattern may match
/// nothing.
EnvList forwarded(const Config& config, const HeadFacts& head, std::vector<std::string>& notes) {
  EnvList picked;
  for (const auto& pattern : config.forward_env) {
    bool found = false;
    for (const auto& [name, value] : head.environment) {
      if (fnmatch(pattern.c_str(), name.c_str(), 0) != 0 || set_by_llmlaunch(name)) continue;
      picked.emplace_back(name, value);
      found = true;
    }
    const bool plain = pattern.find_first_of("*?[") == pattern.npos;
    if (plain && set_by_llmlaunch(pattern)) {
      notes.push_back(fmt::format("{}: forward_env names {}, which llmlaunch sets for each rank itself",
                                  place_of(config, "llmlaunch.forward_env"), pattern));
    } else if (plain && !found) {
      notes.push_back(fmt::format("{}: forward_env names {}, which is not set here", place_of(config, "llmlaunch.forward_env"), pattern));
    }
  }
  return picked;
}

bool on_cpu(const Config& config) { return config.use_cpu || config.distributed_type == "MULTI_CPU"; }

/// What the file's accelerate keys mean to a rank.
EnvList of_accelerate(const Config& config) {
  EnvList list;
  list.emplace_back(env::kMixedPrecision, config.mixed_precision);
  list.emplace_back("ACCELERATE_USE_CPU", on_cpu(config) ? "true" : "false");
  if (config.debug) list.emplace_back("ACCELERATE_DEBUG_MODE", "true");
  if (config.gpu_ids != "all" && !on_cpu(config)) list.emplace_back(env::kCudaVisibleDevices, config.gpu_ids);
  return list;
}

/// Where this host stands in the world, under every launcher's name for it.
EnvList of_host_in_world(const HostPlan& host, const LaunchPlan& plan, std::size_t hosts, std::size_t local) {
  const auto text = [](auto value) { return fmt::format("{}", value); };
  return {{env::kWorldSize, text(plan.world_size)},
          {env::kLocalWorldSize, text(local)},
          {env::kLocalSize, text(local)},
          {env::kGroupRank, text(number(host.node_rank))},
          {env::kNodeRank, text(number(host.node_rank))},
          {env::kCrossRank, text(number(host.node_rank))},
          {env::kGroupWorldSize, text(hosts)},
          {env::kCrossSize, text(hosts)},
          {env::kJobId, plan.job_id},
          {env::kGeneration, "0"},
          {env::kHost, host.name}};
}

HostPlan plan_host(const Config& config, const HostConfig& from, const LaunchPlan& plan, std::size_t hosts,
                   std::size_t index, std::uint32_t first_rank, std::uint32_t ranks, const EnvList& picked,
                   const HeadFacts& head) {
  HostPlan host;
  host.name = from.name;
  host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
  host.local = from.name == "localhost" && !from.address;
  host.address = from.address.value_or(from.name);
  host.user = from.user ? from.user : config.ssh.user;
  host.port = from.port ? from.port : config.ssh.port;
  host.identity_files = from.identity_files.empty() ? config.ssh.identity_files : from.identity_files;
  host.workdir = from.workdir.value_or(config.workdir.value_or(""));
  Environment env;
  env.set("PYTHONUNBUFFERED", "1");
  env.set_all(picked);
  env.set_all(of_accelerate(config));
  env.set_all(config.env);
  env.set_all(from.env);
  // A remote host's cores are not known before its agent has said them; there the variable stays as it is.
  if (host.local && !env.has(env::kOmpNumThreads)) {
    const auto set_here = [](const auto& variable) { return variable.first == env::kOmpNumThreads; };
    if (std::none_of(head.environment.begin(), head.environment.end(), set_here)) {
      env.set(env::kOmpNumThreads, fmt::format("{}", std::max<std::uint32_t>(1, head.cores / ranks)));
    }
  }
  env.set_all(of_host_in_world(host, plan, hosts, ranks));
  host.env = std::move(env).take();
  for (std::uint32_t local = 0; local < ranks; ++local) {
    RankPlan rank{Rank{first_rank + local}, local, {}};
    rank.env = {{env::kRank, fmt::format("{}", first_rank + local)}, {env::kLocalRank, fmt::format("{}", local)}};
    host.ranks.push_back(std::move(rank));
  }
  return host;
}

/// The built-in trainer learns from a flag that it has to stay on the CPU; other programs read ACCELERATE_USE_CPU.
std::vector<std::string> argv_of(const Config& config, const Command& command) {
  std::vector<std::string> argv = command.argv;
  const auto says_so = [](const std::string& word) {
    return word == "--use_cpu" || word == "--use-cpu" || word.starts_with("--use_cpu=") || word.starts_with("--use-cpu=");
  };
  if (command.program && on_cpu(config) && std::none_of(argv.begin(), argv.end(), says_so)) {
    argv.insert(argv.begin() + 1, "--use_cpu");
  }
  return argv;
}

}  // namespace

Result<LaunchPlan> make_plan(const Config& config, const Command& command, const HeadFacts& head) {
  if (command.argv.empty()) return make_error(Errc::usage, "no program to run");
  const auto hosts = hosts_of(config);
  if (auto checked = check_hosts(config, hosts); !checked) return checked.error();
  const auto counts = share_out(config, hosts);
  if (!counts) return counts.error();

  LaunchPlan plan;
  plan.job_id = head.job_id;
  plan.notes = config.notes;
  plan.argv = argv_of(config, command);
  plan.program = command.program;
  plan.rendezvous_address = config.main_process_ip.value_or("");
  plan.rendezvous_port = config.main_process_port;
  plan.ssh = config.ssh;
  plan.timeouts = config.timeouts;
  plan.log_dir = config.log_dir;
  for (const auto count : *counts) plan.world_size += count;
  const EnvList picked = forwarded(config, head, plan.notes);
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    plan.hosts.push_back(plan_host(config, hosts[i], plan, hosts.size(), i, next, (*counts)[i], picked, head));
    next += (*counts)[i];
  }
  return plan;
}

}  // namespace llmlaunch::launcher
