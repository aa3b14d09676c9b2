/// \file
/// `Bench`: a `JobState` with hosts that a test speaks for, a clock that it moves, and the actions it was answered
/// with.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/job_state.hpp"

namespace llmlaunch::testing {

using namespace launcher;
using namespace std::chrono_literals;

inline constexpr auto kOut = agent::Stream::out;
inline constexpr auto kErr = agent::Stream::err;
inline constexpr std::size_t kFiles = 2;  // that a host may ask for

inline LaunchPlan plan_of(std::size_t hosts, std::uint32_t ranks_each) {
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

/// A `JobState` with a clock that the test moves and the actions it has answered with.
struct Bench {
  explicit Bench(LaunchPlan p, std::size_t files = kFiles, const char* run_directory = "/logs/job-1")
      : plan(std::move(p)), state(plan, files, run_directory, now) {
    take(state.start(now));
  }

  void take(Actions more) {
    last = std::move(more);
    for (const Action& action : last) {
      if (std::holds_alternative<Finish>(action)) ++finishes;
    }
    all.insert(all.end(), last.begin(), last.end());
  }
  void opened(HostIndex host) { take(state.on_opened(host, now)); }
  void message(HostIndex host, agent::AgentMessage m) {
    state.on_bytes(host, now);
    take(state.on_message(host, std::move(m), now));
  }
  void hello(HostIndex host) {
    opened(host);
    message(host, agent::Hello{agent::kProtocolVersion, "node", 100, 8});
  }
  void ready(HostIndex host) {
    hello(host);
    message(host, agent::Ready{static_cast<std::uint16_t>(40000 + host)});
  }
  void running() {
    for (HostIndex host = 0; host < plan.hosts.size(); ++host) ready(host);
    for (HostIndex host = 0; host < plan.hosts.size(); ++host)
      for (const RankPlan& rank : plan.hosts[host].ranks) started(number(rank.rank));
  }
  void started(std::uint32_t rank) {
    message(host_of(rank), agent::Started{rank, 4000 + rank});
    open_outputs.push_back(rank);
  }
  HostIndex host_of(std::uint32_t rank) const { return rank / plan.hosts[0].ranks.size(); }
  void exited(std::uint32_t rank, int status) {
    message(host_of(rank), agent::Exited{rank, false, status, false, false, 0});
  }
  void killed(std::uint32_t rank, int signal, bool core, bool stopped) {
    message(host_of(rank), agent::Exited{rank, true, signal, core, stopped, 0});
  }
  void output(std::uint32_t rank, agent::Stream stream, std::string_view text) {
    const ByteView bytes = as_bytes(text);
    message(host_of(rank), agent::Output{rank, stream, Bytes(bytes.begin(), bytes.end())});
    take(state.on_taken(host_of(rank), text.size(), now));
  }
  void outputs_end(std::uint32_t rank) {
    for (const auto stream : {kOut, kErr}) message(host_of(rank), agent::OutputEnd{rank, stream});
    std::erase(open_outputs, rank);
  }
  /// As agents do: after the ends of all outputs.
  void done(HostIndex host) {
    for (const std::uint32_t rank : std::vector(open_outputs))
      if (host_of(rank) == host) outputs_end(rank);
    message(host, agent::Done{});
  }
  void tick(std::chrono::milliseconds passed) {
    now += passed;
    take(state.on_tick(now));
  }
  /// Time goes by while these hosts are heard of.
  void pass(std::chrono::milliseconds time, const std::vector<HostIndex>& alive) {
    for (; time > 0ms; time -= 1s) {
      now += 1s;
      for (const HostIndex host : alive) state.on_bytes(host, now);
      take(state.on_tick(now));
    }
  }

  template <class T>
  std::vector<T> of(const Actions& actions) const {
    std::vector<T> found;
    for (const Action& action : actions)
      if (const T* one = std::get_if<T>(&action)) found.push_back(*one);
    return found;
  }
  template <class M>
  std::vector<std::pair<HostIndex, M>> sent(const Actions& actions) const {
    std::vector<std::pair<HostIndex, M>> found;
    for (const SendMessage& send : of<SendMessage>(actions))
      if (const M* message = std::get_if<M>(&send.message)) found.emplace_back(send.host, *message);
    return found;
  }
  std::string story() const {
    const JobResult result = state.result();
    return result.failure ? to_string(*result.failure) : "";
  }
  int status() const { return state.result().exit_status; }

  TimePoint now{};
  LaunchPlan plan;
  JobState state;
  Actions last;
  Actions all;
  std::vector<std::uint32_t> open_outputs;  // ranks that were started and whose outputs have not ended
  int finishes = 0;
};

inline Error refused(const std::string& what) {
  return make_error(Errc::refused, what, {}, "start sshd there");
}

}  // namespace llmlaunch::testing
