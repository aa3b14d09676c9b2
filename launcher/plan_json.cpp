// `--dry-run --json`: what describe_plan (cli/dry_run.cpp) says to people, complete and without folding.
#include <nlohmann/json.hpp>

#include "launcher/plan.hpp"

namespace llmlaunch::launcher {
namespace {

using nlohmann::ordered_json;

ordered_json env_of(const EnvList& env) {
  ordered_json object = ordered_json::object();
  for (const auto& [name, value] : env)
    object[name] = names_secret(name) ? ordered_json(std::string(kMask)) : ordered_json(value);
  return object;
}

template <class T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json visible_gpus(const EnvList& env) {
  for (const auto& [name, value] : env)
    if (name == "CUDA_VISIBLE_DEVICES") return value;
  return nullptr;
}

ordered_json host_of(const HostPlan& host) {
  ordered_json json{{"host", host.name},          {"node_rank", number(host.node_rank)},
                    {"local", host.local},        {"address", host.address},
                    {"user", or_null(host.user)}, {"port", or_null(host.port)},
                    {"workdir", host.workdir},    {"proxy_jump", or_null(host.proxy_jump)}};
  ordered_json setup = ordered_json::array();
  for (const auto& line : host.setup) setup.push_back(without_secrets(std::vector<std::string>{line}).front());
  json["setup"] = std::move(setup);
  json["gpus"] = visible_gpus(host.env);
  json["env"] = env_of(host.env);
  ordered_json ranks = ordered_json::array();
  for (const RankPlan& rank : host.ranks)
    ranks.push_back({{"rank", number(rank.rank)}, {"local_rank", rank.local_rank}, {"env", env_of(rank.env)}});
  json["ranks"] = std::move(ranks);
  return json;
}

/// Null where one command starts all hosts.
ordered_json machine_of(const LaunchPlan& plan) {
  if (!plan.per_machine) return nullptr;
  const std::string& from = plan.per_machine->token_from;
  return {{"machine_rank", or_null(plan.per_machine->machine_rank)},
          {"gives_places", plan.per_machine->gives_places},
          {"num_machines", plan.hosts.size()},
          {"token_from", from.empty() ? ordered_json(nullptr) : ordered_json(from)}};
}

}  // namespace

std::string plan_json(const LaunchPlan& plan) {
  constexpr const char* kBinds[] = {"none", "core", "numa", "gpu"};
  const auto bind = plan.process.cpu_bind.value_or(agent::CpuBind::none);
  ordered_json json{{"job_id", plan.job_id},
                    {"world_size", plan.world_size},
                    {"argv", without_secrets(plan.argv)},
                    {"program", plan.program ? ordered_json(plan.program->name) : ordered_json(nullptr)},
                    {"cpu_bind", kBinds[static_cast<std::size_t>(bind)]},
                    {"rendezvous_address", plan.rendezvous_address},
                    {"rendezvous_port", plan.rendezvous_port},
                    {"rendezvous_via", plan.rendezvous_via == RendezvousWay::ssh ? "ssh" : "direct"},
                    {"use_agent_store", plan.use_agent_store},
                    {"per_machine", machine_of(plan)},
                    {"log_dir", plan.log_dir},
                    {"notes", plan.notes}};
  ordered_json hosts = ordered_json::array();
  for (const HostPlan& host : plan.hosts) hosts.push_back(host_of(host));
  json["hosts"] = std::move(hosts);
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace llmlaunch::launcher
