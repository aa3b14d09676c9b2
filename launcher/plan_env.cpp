// The variables of a host's ranks, layer by layer. Called by plan.cpp alone.
#include "launcher/plan_env.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <unordered_map>

#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

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
          {env::kJobId, plan.job_id},
          {env::kGeneration, "0"},
          {env::kRendezvousTimeout, text(plan.timeouts.rendezvous.count())},
          {env::kHost, host.name}};
}

}  // namespace

std::string place_of(const Config& config, std::string_view key) {
  const auto found = config.places.find(key);
  return found == config.places.end() ? config.file : found->second;
}

const std::string* value_of(const EnvList& list, std::string_view name) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const auto& variable) { return variable.first == name; });
  return found == list.end() ? nullptr : &found->second;
}

bool on_cpu(const Config& config) {
  return config.use_cpu || config.distributed_type == "MULTI_CPU";
}

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
      notes.push_back(fmt::format("{}: forward_env names {}, which is not set here",
                                  place_of(config, "llmlaunch.forward_env"), pattern));
    }
  }
  return picked;
}

EnvList env_of_host(const Config& config, const HostConfig& from, const HostPlan& host, const LaunchPlan& plan,
                    const EnvList& picked, const HeadFacts& head) {
  const std::size_t ranks = host.ranks.size();
  Environment env;
  env.set("PYTHONUNBUFFERED", "1");
  env.set_all(picked);
  env.set_all(of_accelerate(config));
  env.set_all(config.env);
  env.set_all(from.env);
  // A remote host's cores are not known before its agent has said them; there the variable stays as it is.
  if (host.local && !env.has(env::kOmpNumThreads)) {
    if (value_of(head.environment, env::kOmpNumThreads) == nullptr) {
      env.set(env::kOmpNumThreads, fmt::format("{}", std::max<std::size_t>(1, head.cores / ranks)));
    }
  }
  env.set_all(of_host_in_world(host, plan));
  return std::move(env).take();
}

}  // namespace llmlaunch::launcher
