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

LaunchPlan plan_of(std::size_t hosts, std::uint32_t ranks_each);

/// A `JobState` with a clock that the test moves and the actions it has answered with.
struct Bench {
  explicit Bench(LaunchPlan p, std::size_t files = kFiles, const char* run_directory = "/logs/job-1");
  Bench(const Bench&) = delete;
  ~Bench();

  void take(Actions more);
  void opened(HostIndex host) { take(state.on_opened(host, now)); }
  void message(HostIndex host, agent::AgentMessage m);
  void hello(HostIndex host);
  void ready(HostIndex host);
  void running();
  void started(std::uint32_t rank);
  HostIndex host_of(std::uint32_t rank) const { return rank / plan.hosts[0].ranks.size(); }
  void exited(std::uint32_t rank, int status);
  void killed(std::uint32_t rank, int signal, bool core, bool stopped);
  void output(std::uint32_t rank, agent::Stream stream, std::string_view text);
  void outputs_end(std::uint32_t rank);
  /// As agents do: after the ends of all outputs.
  void done(HostIndex host);
  void tick(std::chrono::milliseconds passed);
  /// Time goes by while these hosts are heard of.
  void pass(std::chrono::milliseconds time, const std::vector<HostIndex>& alive);

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
  std::string story() const;
  int status() const { return state.result().exit_status; }

  TimePoint now{};
  LaunchPlan plan;
  JobState state;
  Actions last;
  Actions all;
  std::vector<std::uint32_t> open_outputs;  // ranks that were started and whose outputs have not ended
  int finishes = 0;
};

Error refused(const std::string& what);

}  // namespace llmlaunch::testing
