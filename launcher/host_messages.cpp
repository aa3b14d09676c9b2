// Prepare and Go from a plan. The only place where the token is put anywhere: into the first frame of each host.
#include "launcher/host_messages.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

std::size_t host_of_rank_0(const LaunchPlan& plan) {
  for (std::size_t host = 0; host < plan.hosts.size(); ++host)
    for (const RankPlan& rank : plan.hosts[host].ranks)
      if (rank.rank == Rank{0}) return host;
  return 0;
}

// Differs between the hosts, which may be one machine.
std::string resume_name(const LaunchPlan& plan, std::size_t host, const HeadSide& head) {
  return fmt::format("llmlaunch-{}-{}", head.resume_name, number(plan.hosts[host].node_rank));
}

constexpr const char* kLoopback = "127.0.0.1";

std::string master_address(const LaunchPlan& plan, std::size_t host, const std::vector<HostAddresses>& addresses) {
  if (plan.use_agent_store && plan.rendezvous_via == RendezvousWay::ssh) return kLoopback;
  if (!plan.rendezvous_address.empty()) return plan.rendezvous_address;
  const std::size_t master = host_of_rank_0(plan);
  const bool on_head = plan.use_agent_store || plan.hosts[master].local;
  return on_head ? addresses[host].head : addresses[master].host;
}

agent::RankSettings settings_of(const LaunchPlan& plan, const HostPlan& host) {
  agent::RankSettings settings;
  settings.limits = plan.process.limits;
  settings.umask = plan.process.umask.value_or(agent::kNoUmask);
  settings.cpu_bind = plan.process.cpu_bind.value_or(agent::CpuBind::none);
  settings.choose_omp_threads = host.choose_omp_threads;
  settings.setup = host.setup;
  settings.start_timeout_ms = message_ms(plan.timeouts.start);
  for (const RankPlan& rank : host.ranks)
    if (reads_stdin(plan, rank.rank)) settings.stdin_ranks.push_back(number(rank.rank));
  return settings;
}

}  // namespace

bool reads_stdin(const LaunchPlan& plan, Rank rank) {
  return plan.process.stdin_to == StdinTo::all || (plan.process.stdin_to == StdinTo::rank_0 && rank == Rank{0});
}

std::uint32_t message_ms(std::chrono::milliseconds time) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time.count(), 0, UINT32_MAX));
}

std::string endpoint(const std::string& address, std::uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos && !address.starts_with('[');
  return v6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

std::string rendezvous_endpoint(const LaunchPlan& plan, const HostAddresses& host, const HeadSide& head) {
  if (host.carried_port != 0) return endpoint(kLoopback, host.carried_port);
  if (plan.rendezvous_via == RendezvousWay::ssh) return endpoint(kLoopback, head.rendezvous_port);
  return endpoint(plan.rendezvous_address.empty() ? host.head : plan.rendezvous_address, head.rendezvous_port);
}

agent::Prepare prepare_message(const LaunchPlan& plan, std::size_t index, const HeadSide& head, agent::HeadWays ways) {
  const HostPlan& host = plan.hosts[index];
  agent::Prepare prepare;
  prepare.job_id = plan.job_id;
  prepare.host = host.name;
  prepare.window_bytes = head.window_bytes;
  prepare.grace_ms = message_ms(plan.timeouts.grace);
  prepare.head_timeout_ms = message_ms(plan.timeouts.head);
  prepare.workdir = host.workdir;
  prepare.argv = plan.argv;
  prepare.python = plan.python;
  prepare.env = host.env;
  if (plan.policy == StartPolicy::gang) prepare.env.emplace_back(env::kToken, head.token);
  if (head.terminal_columns > 0) prepare.env.emplace_back(env::kColumns, std::to_string(head.terminal_columns));
  prepare.ways = std::move(ways);
  for (const RankPlan& rank : host.ranks) prepare.ranks.push_back({number(rank.rank), rank.env});
  if (!head.files.empty()) {
    prepare.files = head.files;
    if (host.local) prepare.files.resize(1);
    prepare.argv[0] = std::string(agent::kPushedArgvPrefix) + head.files[0].name;
  }
  // A head on the same machine whose socket pair ends is dead, and without a time limit nobody would wait for it. A
  // machine that calls in is not called back.
  if (!host.local && !host.calls_in && prepare.head_timeout_ms > 0 && !head.resume_key.empty()) {
    prepare.resume_name = resume_name(plan, index, head);
    prepare.resume_key = head.resume_key;
  }
  prepare.settings = settings_of(plan, host);
  return prepare;
}

agent::Resume resume_message(const LaunchPlan& plan, std::size_t host, const HeadSide& head) {
  agent::Resume resume;
  resume.name = resume_name(plan, host, head);
  resume.key = head.resume_key;
  resume.job_id = plan.job_id;
  resume.host = plan.hosts[host].name;
  return resume;
}

agent::Go go_message(const LaunchPlan& plan, std::size_t host, const std::vector<HostAddresses>& addresses,
                     std::uint16_t free_port, const HeadSide& head) {
  agent::Go go;
  if (plan.policy == StartPolicy::each_host) return go;
  const HostAddresses& own = addresses[host];
  go.env.emplace_back(env::kRendezvous, rendezvous_endpoint(plan, own, head));
  go.env.emplace_back(env::kMasterAddr, master_address(plan, host, addresses));
  const std::uint16_t store_port = own.carried_port != 0 ? own.carried_port : head.rendezvous_port;
  go.env.emplace_back(env::kMasterPort, std::to_string(plan.use_agent_store ? store_port : free_port));
  if (plan.hosts.size() > 1 && !own.interface.empty()) {
    go.defaults.emplace_back(env::kNcclInterface, "=" + own.interface);
    go.defaults.emplace_back(env::kGlooInterface, own.interface);
  }
  return go;
}

}  // namespace llmlaunch::launcher
