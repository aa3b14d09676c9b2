/// \file
/// What the head tells a host about the job: the plan, completed with what is known only while it runs. Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/head_addresses.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// Known when the rendezvous listens.
struct HeadSide {
  std::string token;
  std::uint16_t rendezvous_port = 0;
  std::uint64_t window_bytes = 0;
  std::vector<agent::FileSpec> files;  ///< LaunchPlan::program, then its libraries; empty without one
  std::string resume_name;             ///< of this run; see agent/protocol.hpp
  std::string resume_key;
  std::size_t terminal_columns =
      0;  ///< of a terminal on which a person sees ranks' lines drawn again; 0: there is none
};

/// Does llmlaunch's own stdin go to this rank?
bool reads_stdin(const LaunchPlan& plan, Rank rank);

/// A time as messages carry it: what does not fit is the longest that does, 49 days.
std::uint32_t message_ms(std::chrono::milliseconds time);

/// "10.0.0.1:29500", "[fd00::1]:29500".
std::string endpoint(const std::string& address, std::uint16_t port);

/// Where the ranks of this host find the rendezvous.
std::string rendezvous_endpoint(const LaunchPlan& plan, const HostAddresses& host, const HeadSide& head);

/// A host that is this machine is told of the program alone: its libraries are where the head found them.
agent::Prepare prepare_message(const LaunchPlan& plan, std::size_t host, const HeadSide& head, agent::HeadWays ways);

/// For the agent of this host, over another connection; what the head has is for the session to fill in.
agent::Resume resume_message(const LaunchPlan& plan, std::size_t host, const HeadSide& head);

/// `addresses` of all hosts, settled; not looked at for hosts that concern no other. MASTER_ADDR and MASTER_PORT are
/// where `host` reaches the rendezvous; with a store of rank 0's own, rank 0's host, and a port that was free there a
/// moment ago. Between machines NCCL and Gloo take the interface towards the head, where nobody says another.
agent::Go go_message(const LaunchPlan& plan, std::size_t host, const std::vector<HostAddresses>& addresses,
                     std::uint16_t free_port, const HeadSide& head);

}  // namespace llmlaunch::launcher
