#include "tests/support/job_bench.hpp"

namespace llmlaunch::testing {

LaunchPlan plan_of(std::size_t hosts, std::uint32_t ranks_each) {
  LaunchPlan plan;
  plan.job_id = "job-1";
  plan.argv = {"true"};
  for (std::size_t index = 0; index < hosts; ++index) {
    HostPlan host;
    host.name = "gpu0" + std::to_string(index + 1);
    host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
    for (std::uint32_t local = 0; local < ranks_each; ++local)
      host.ranks.push_back({Rank{plan.world_size++}, local, {}});
    plan.hosts.push_back(std::move(host));
  }
  return plan;
}

Error refused(const std::string& what) {
  return make_error(Errc::refused, what, {}, "start sshd there");
}

Bench::Bench(LaunchPlan p, std::size_t files, const char* run_directory)
    : plan(std::move(p)), state(plan, files, run_directory, now) {
  take(state.start(now));
}

Bench::~Bench() = default;

void Bench::take(Actions more) {
  last = std::move(more);
  for (const Action& action : last) {
    if (std::holds_alternative<Finish>(action)) ++finishes;
  }
  all.insert(all.end(), last.begin(), last.end());
}

void Bench::message(HostIndex host, agent::AgentMessage m) {
  state.on_bytes(host, now);
  take(state.on_message(host, std::move(m), now));
}

void Bench::hello(HostIndex host) {
  opened(host);
  message(host, agent::Hello{agent::kProtocolVersion, "node", 100, 8});
}

void Bench::ready(HostIndex host) {
  hello(host);
  message(host, agent::Ready{static_cast<std::uint16_t>(40000 + host)});
}

void Bench::running() {
  for (HostIndex host = 0; host < plan.hosts.size(); ++host) ready(host);
  for (HostIndex host = 0; host < plan.hosts.size(); ++host)
    for (const RankPlan& rank : plan.hosts[host].ranks) started(number(rank.rank));
}

void Bench::started(std::uint32_t rank) {
  message(host_of(rank), agent::Started{rank, 4000 + rank});
  open_outputs.push_back(rank);
}

void Bench::exited(std::uint32_t rank, int status) {
  message(host_of(rank), agent::Exited{rank, false, status, false, false, 0});
}

void Bench::killed(std::uint32_t rank, int signal, bool core, bool stopped) {
  message(host_of(rank), agent::Exited{rank, true, signal, core, stopped, 0});
}

void Bench::output(std::uint32_t rank, agent::Stream stream, std::string_view text) {
  const ByteView bytes = as_bytes(text);
  message(host_of(rank), agent::Output{rank, stream, Bytes(bytes.begin(), bytes.end())});
  take(state.on_taken(host_of(rank), text.size(), now));
}

void Bench::outputs_end(std::uint32_t rank) {
  for (const auto stream : {kOut, kErr}) message(host_of(rank), agent::OutputEnd{rank, stream});
  std::erase(open_outputs, rank);
}

void Bench::done(HostIndex host) {
  for (const std::uint32_t rank : std::vector(open_outputs))
    if (host_of(rank) == host) outputs_end(rank);
  message(host, agent::Done{});
}

void Bench::tick(std::chrono::milliseconds passed) {
  now += passed;
  take(state.on_tick(now));
}

void Bench::pass(std::chrono::milliseconds time, const std::vector<HostIndex>& alive) {
  for (; time > 0ms; time -= 1s) {
    now += 1s;
    for (const HostIndex host : alive) state.on_bytes(host, now);
    take(state.on_tick(now));
  }
}

std::string Bench::story() const {
  const JobResult result = state.result();
  return result.failure ? to_string(*result.failure) : "";
}

}  // namespace llmlaunch::testing
