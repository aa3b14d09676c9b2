/// \file
/// Where ranks find the rendezvous: which of the head's addresses a host may try (agent/head_probe.hpp does), and what
/// each host is told when all have answered. Pure: the head's interfaces are given.
#pragma once

#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher {

/// Known of each host when it is ready.
struct HostAddresses {
  std::string head;                ///< of the head, as this host reaches it
  std::string host;                ///< of the host, as the head sees it
  std::uint16_t carried_port = 0;  ///< of 127.0.0.1 there; 0: its ranks come directly
  std::string interface = {};      ///< of the host, towards the head; empty: not known, or loopback
};

/// Do its ranks come to the rendezvous through its ssh session?
bool goes_through_ssh(const LaunchPlan& plan, const HostPlan& host);

/// 127.0.0.0/8 or ::1.
bool is_loopback(const std::string& address);

/// The head's addresses for a host that ssh reached from `seen`, the best first: that one, then those of the other
/// interfaces, bridges and tunnels of this machine alone last. No loopback but `seen`, and nothing link-local of IPv6,
/// which means another machine on each link. At most agent::kMaxHeadAddresses.
std::vector<std::string> head_candidates(const std::string& seen, const std::vector<InterfaceAddress>& own);

/// The ways that a host's agent tries; none where it need not: its ranks have no world, or are all on this machine.
/// `main_addresses`: what main_process_ip comes to here; empty: not given, or nothing that could be tried.
agent::HeadWays ways_to_head(const LaunchPlan& plan, std::size_t host, const std::string& seen, std::uint16_t port,
                             const std::vector<std::string>& main_addresses, const std::vector<InterfaceAddress>& own);

/// A host on this machine, which reaches the head by loopback, is told an address that the others can use as well.
void settle_addresses(const LaunchPlan& plan, std::vector<HostAddresses>& hosts,
                      const std::vector<InterfaceAddress>& own);

/// Why a job cannot start on a host that reaches the head nowhere.
Error no_way_to_head(const agent::HeadReach& reach);

}  // namespace llmlaunch::launcher
