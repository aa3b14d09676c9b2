// Which hosts a job has, and how many ranks are on each.
#include "launcher/plan_shares.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "launcher/plan_env.hpp"
#include "rendezvous/base/counted.hpp"

namespace llmlaunch::launcher {
namespace {

// One host has at most this many ranks (the agent's limit), and a job at most this many: each rank costs the head about
// 2 KB of plan before anything runs.
constexpr std::uint64_t kMaxRanksPerHost = 4096;
constexpr std::uint64_t kMaxWorldSize = 262'144;

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

}  // namespace

Error wrong(const Config& config, std::string_view key, std::string what, std::string hint) {
  return make_error(Errc::invalid_config, std::move(what), place_of(config, key), std::move(hint));
}

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
    return wrong(
        config, "num_machines", fmt::format("num_machines is {}, but no hosts are given", machines),
        "list the machines under llmlaunch.hosts, or with --hosts; or start each by itself, with main_process_ip "
        "(--rdzv-endpoint) for where machine 0 is");
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

}  // namespace llmlaunch::launcher
