// The variables of a host's ranks, layer by layer. Called by plan.cpp alone.
#include "launcher/plan_env.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "launcher/accelerate_env.hpp"
#include "launcher/env_template.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

// Up to here a look through the list is faster than an index: most ranks have 8 variables of their own, and jobs have
// thousands of ranks.
constexpr std::size_t kFewVariables = 16;

/// Layers of variables; a later value of a name wins, at the place of the first.
class Environment {
 public:
  explicit Environment(std::size_t expected) { list_.reserve(expected); }

  void set(std::string name, std::string value) {
    if (std::string* old = find(name)) {
      *old = std::move(value);
      return;
    }
    list_.emplace_back(std::move(name), std::move(value));
    if (list_.size() <= kFewVariables) return;
    for (std::size_t i = index_.size(); i < list_.size(); ++i) index_.emplace(list_[i].first, i);
  }
  void set_all(EnvList list) {
    for (auto& [name, value] : list) set(std::move(name), std::move(value));
  }
  EnvList take() && { return std::move(list_); }

 private:
  std::string* find(const std::string& name) {
    if (list_.size() > kFewVariables) {
      const auto found = index_.find(name);
      return found == index_.end() ? nullptr : &list_[found->second].second;
    }
    for (auto& variable : list_)
      if (variable.first == name) return &variable.second;
    return nullptr;
  }

  EnvList list_;
  std::unordered_map<std::string, std::size_t> index_;  // of all names, once there are many
};

bool on_gpus(const std::string& type) {
  return type == "MULTI_GPU" || type == "FSDP" || type == "DEEPSPEED" || type == "MEGATRON_LM";
}

/// The devices that the ranks of a host may see; nothing: all of them.
std::optional<std::string> devices_of(const Config& config, const HostConfig& from) {
  if (on_cpu(config)) return std::nullopt;
  const std::optional<std::string>& ids = from.gpu_ids ? from.gpu_ids : config.gpu_ids;
  if (ids) return *ids == "all" ? std::nullopt : ids;
  if (!from.slots || !on_gpus(config.distributed_type)) return std::nullopt;
  std::string first;
  for (std::uint32_t i = 0; i < *from.slots; ++i) first += fmt::format("{}{}", i == 0 ? "" : ",", i);
  return first;
}

/// Where this host stands in the world, under every launcher's name for it.
EnvList of_host_in_world(const HostPlan& host, const LaunchPlan& plan) {
  const std::size_t local = host.ranks.size();
  const std::size_t hosts = plan.hosts.size();
  const auto text = [](auto value) { return fmt::format("{}", value); };
  return {{env::kWorldSize, text(plan.world_size)},
          {env::kLocalWorldSize, text(local)},
          {env::kLocalSize, text(local)},
          {env::kGroupRank, text(number(host.node_rank))},
          {env::kNodeRank, text(number(host.node_rank))},
          {env::kCrossRank, text(number(host.node_rank))},
          {env::kGroupWorldSize, text(hosts)},
          {env::kCrossSize, text(hosts)},
          {env::kRoleWorldSize, text(plan.world_size)},
          {env::kElasticRunId, plan.run_id.empty() ? plan.job_id : plan.run_id},
          {env::kElasticRestartCount, "0"},
          {env::kElasticMaxRestarts, "0"},
          {env::kElasticUseAgentStore, plan.use_agent_store ? "True" : "False"},  // else rank 0 makes PyTorch's store
          {env::kHorovodHostname, host.name},
          {env::kHorovodSize, text(plan.world_size)},
          {env::kHorovodLocalSize, text(local)},
          {env::kHorovodCrossRank, text(number(host.node_rank))},
          {env::kHorovodCrossSize, text(hosts)},
          {env::kOmpiSize, text(plan.world_size)},
          {env::kOmpiLocalSize, text(local)},
          {env::kJobId, plan.job_id},
          {env::kGeneration, "0"},
          {env::kRendezvousTimeout, text(plan.timeouts.rendezvous.count())},
          {env::kHost, host.name}};
}

/// A host that concerns no other: a program that found a WORLD_SIZE would wait for a world.
EnvList of_host_alone(const HostPlan& host, const LaunchPlan& plan) {
  return {
      {env::kNodeRank, fmt::format("{}", number(host.node_rank))}, {env::kJobId, plan.job_id}, {env::kHost, host.name}};
}

}  // namespace

std::string place_of(const Config& config, std::string_view key) {
  const auto found = config.places.find(key);
  return found == config.places.end() ? config.file : found->second.text;
}

const std::string* value_of(const EnvList& list, std::string_view name) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const auto& variable) { return variable.first == name; });
  return found == list.end() ? nullptr : &found->second;
}

EnvList forwarded(const Config& config, const HeadFacts& head, std::vector<std::string>& notes) {
  EnvList picked;
  const auto is_denied = [&](const std::string& name) {
    return std::any_of(config.forward_env.begin(), config.forward_env.end(), [&](const std::string& pattern) {
      return pattern.starts_with('!') && fnmatch(pattern.c_str() + 1, name.c_str(), 0) == 0;
    });
  };
  std::vector<std::string> patterns = {std::string(env::kTrainPrefix) + '*'};  // flags of the trainer in another place
  patterns.insert(patterns.end(), config.forward_env.begin(), config.forward_env.end());
  for (const auto& pattern : patterns) {
    if (pattern.starts_with('!')) continue;
    bool found = false;
    for (const auto& [name, value] : head.environment) {
      if (fnmatch(pattern.c_str(), name.c_str(), 0) != 0 || set_by_llmlaunch(name)) continue;
      found = true;
      if (is_denied(name)) continue;
      picked.emplace_back(name, value);
    }
    const bool plain = pattern.find_first_of("*?[") == pattern.npos;
    if (plain && set_by_llmlaunch(pattern)) {
      notes.push_back(fmt::format("{}: forward_env names {}, which llmlaunch sets for each rank itself",
                                  place_of(config, "llmlaunch.forward_env"), pattern));
    } else if (plain && !found) {
      notes.push_back(fmt::format("{}: forward_env names {}, which is not set here",
                                  place_of(config, "llmlaunch.forward_env"), pattern));
    }
  }
  return picked;
}

agent::CpuBind cpu_bind_of(const Config& config) {
  if (config.process.cpu_bind) return *config.process.cpu_bind;
  if (!config.enable_cpu_affinity) return agent::CpuBind::none;
  return on_cpu(config) ? agent::CpuBind::numa : agent::CpuBind::gpu;
}

void note_cpu_affinity(const Config& config, std::vector<std::string>& notes) {
  const auto asked = on_cpu(config) ? agent::CpuBind::numa : agent::CpuBind::gpu;
  if (!config.enable_cpu_affinity || config.process.cpu_bind.value_or(asked) == asked) return;
  notes.push_back(fmt::format("{}: enable_cpu_affinity has no effect: cpu_bind decides which cores a rank gets ({})",
                              place_of(config, "enable_cpu_affinity"), place_of(config, "llmlaunch.cpu_bind")));
}

EnvList env_of_host(const Config& config, const HostConfig& from, const HostPlan& host, const LaunchPlan& plan,
                    const EnvList& picked, const EnvList& accelerate) {
  constexpr std::size_t kOwn = 32;  // what is set below without a list, and the host's place in the world
  Environment env(kOwn + picked.size() + accelerate.size() + config.env.size() + from.env.size());
  // As torchrun and its kin set them, for users to change.
  env.set("PYTHONUNBUFFERED", "1");
  if (plan.policy == StartPolicy::gang) {
    env.set(env::kNcclAsyncErrors, "1");
    env.set(env::kRoleName, "default");
  }
  if (cpu_bind_of(config) == agent::CpuBind::gpu) env.set(env::kCudaDeviceOrder, "PCI_BUS_ID");
  env.set_all(picked);
  env.set_all(accelerate);
  if (auto devices = devices_of(config, from)) env.set(env::kCudaVisibleDevices, *devices);
  env.set_all(config.env);
  env.set_all(from.env);
  env.set_all(plan.policy == StartPolicy::gang ? of_host_in_world(host, plan) : of_host_alone(host, plan));
  return std::move(env).take();
}

EnvList env_of_rank(const Config& config, const HostConfig& from, const HostPlan& host, const RankPlan& rank,
                    const LaunchPlan& plan) {
  constexpr std::size_t kOwn = 8;
  Environment env(kOwn + config.rank_env.size() + from.rank_env.size());
  const RankPlace place{number(rank.rank), rank.local_rank, number(host.node_rank), plan.world_size, host.name};
  for (const EnvList* list : {&config.rank_env, &from.rank_env})
    for (const auto& [name, value] : *list) env.set(name, expand_template(value, place));
  if (plan.policy == StartPolicy::each_host) return std::move(env).take();
  const std::string global = fmt::format("{}", place.rank), local = fmt::format("{}", place.local_rank);
  env.set(env::kRank, global);
  env.set(env::kLocalRank, local);
  env.set(env::kRoleRank, global);
  env.set(env::kHorovodRank, global);
  env.set(env::kHorovodLocalRank, local);
  env.set(env::kOmpiRank, global);
  env.set(env::kOmpiLocalRank, local);
  env.set(env::kOmpiNodeRank, local);
  return std::move(env).take();
}

bool has_omp_threads(const HostPlan& host) {
  const auto has = [](const EnvList& env) { return value_of(env, env::kOmpNumThreads) != nullptr; };
  return has(host.env) ||
         std::any_of(host.ranks.begin(), host.ranks.end(), [&](const RankPlan& rank) { return has(rank.env); });
}

void note_few_devices(const HostPlan& host, std::vector<std::string>& notes) {
  const std::string* devices = value_of(host.env, env::kCudaVisibleDevices);
  if (devices == nullptr || devices->empty()) return;
  const auto count = static_cast<std::size_t>(std::count(devices->begin(), devices->end(), ',')) + 1;
  if (count >= host.ranks.size()) return;
  notes.push_back(fmt::format("host {}: {} ranks see {} GPU{} ({}={}); local ranks from {} on have none of their own",
                              host.name, host.ranks.size(), count, count == 1 ? "" : "s", env::kCudaVisibleDevices,
                              *devices, count));
}

}  // namespace llmlaunch::launcher
