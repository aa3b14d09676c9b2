// Order and words; see head_addresses.hpp.
#include "launcher/head_addresses.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "rendezvous/message.hpp"

namespace llmlaunch::launcher {
namespace {

// Of interfaces that lead to containers, virtual machines and tunnels of the machine itself, as Docker, Podman,
// libvirt, Kubernetes' networks and VPNs name them. Each machine may have the same address there.
constexpr std::array<std::string_view, 17> kInward{"docker",  "br-",  "virbr", "veth", "cni",    "cbr",
                                                   "flannel", "cali", "lxc",   "lxd",  "podman", "vmnet",
                                                   "vboxnet", "kube", "tun",   "tap",  "wg"};

// What is tried last: the higher, the later.
int lateness(const InterfaceAddress& one) {
  const bool inward = std::any_of(kInward.begin(), kInward.end(),
                                  [&](std::string_view prefix) { return one.interface.starts_with(prefix); });
  if (one.address.starts_with("169.254.")) return 2;
  return inward ? 1 : 0;
}

bool is_link_local_six(const std::string& address) {
  return address.size() > 4 && address.starts_with("fe") && address.find(':') == 4 &&
         std::string_view("89ab").find(address[2]) != std::string_view::npos;
}

bool stays_here(const LaunchPlan& plan) {
  return std::all_of(plan.hosts.begin(), plan.hosts.end(), [](const HostPlan& host) { return host.local; });
}

std::string interface_with(const std::string& address, const std::vector<InterfaceAddress>& own) {
  for (const InterfaceAddress& one : own)
    if (one.address == address && !one.loopback) return one.interface;
  return {};
}

}  // namespace

bool goes_through_ssh(const LaunchPlan& plan, const HostPlan& host) {
  return plan.policy == StartPolicy::gang && plan.rendezvous_via == RendezvousWay::ssh && !host.local && !host.calls_in;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::vector<std::string> head_candidates(const std::string& seen, const std::vector<InterfaceAddress>& own) {
  std::vector<InterfaceAddress> others;
  for (const InterfaceAddress& one : own)
    if (!one.loopback && !is_link_local_six(one.address) && one.address != seen) others.push_back(one);
  std::stable_sort(others.begin(), others.end(),
                   [](const InterfaceAddress& a, const InterfaceAddress& b) { return lateness(a) < lateness(b); });
  std::vector<std::string> candidates;
  if (!seen.empty() && !is_link_local_six(seen)) candidates.push_back(seen);
  for (const InterfaceAddress& one : others)
    if (candidates.size() < agent::kMaxHeadAddresses) candidates.push_back(one.address);
  return candidates;
}

agent::HeadWays ways_to_head(const LaunchPlan& plan, std::size_t host, const std::string& seen, std::uint16_t port,
                             const std::vector<std::string>& main_addresses, const std::vector<InterfaceAddress>& own) {
  agent::HeadWays ways;
  if (plan.policy != StartPolicy::gang || stays_here(plan)) return ways;
  if (plan.rendezvous_via == RendezvousWay::ssh) {
    ways.carry = goes_through_ssh(plan, plan.hosts[host]);
    if (ways.carry && !seen.empty()) ways.addresses.push_back(seen);
    return ways;
  }
  if (!plan.rendezvous_address.empty())
    ways.addresses = main_addresses;
  else if (!plan.hosts[host].local)  // this machine needs no probe of itself
    ways.addresses = head_candidates(seen, own);
  if (ways.addresses.empty()) return ways;
  ways.port = port;
  // As much of a handshake as makes the server name itself. It ends before the proof, so no rank has come; the server
  // says nothing of that.
  rendezvous::Hello hello;
  hello.host = plan.hosts[host].name.substr(0, rendezvous::kMaxNameBytes);
  ways.greeting = rendezvous::encode(rendezvous::Preamble{});
  const Bytes frame = rendezvous::encode(hello);
  ways.greeting.insert(ways.greeting.end(), frame.begin(), frame.end());
  ways.answer = rendezvous::encode(rendezvous::Challenge{});
  ways.answer.resize(kFrameHeaderBytes);
  return ways;
}

void settle_addresses(const LaunchPlan& plan, std::vector<HostAddresses>& hosts,
                      const std::vector<InterfaceAddress>& own) {
  if (!plan.rendezvous_address.empty() && plan.rendezvous_via == RendezvousWay::direct) return;
  const auto other =
      std::find_if(hosts.begin(), hosts.end(), [](const HostAddresses& one) { return !is_loopback(one.head); });
  if (other == hosts.end()) return;
  const std::string shared = other->head;
  for (HostAddresses& one : hosts) {
    if (!is_loopback(one.head)) continue;
    one.head = shared;
    one.interface = interface_with(shared, own);
  }
}

Error no_way_to_head(const agent::HeadReach& reach) {
  return make_error(
      Errc::unreachable, fmt::format("no connection to the rendezvous on the head ({})", reach.failures), {},
      "open that TCP port of this machine to the hosts (main_process_port sets which), set main_process_ip to "
      "an address of this machine that they reach, or set llmlaunch.rendezvous.via: ssh, which needs no "
      "port but ssh's; `llmlaunch exec` runs commands that need no rendezvous");
}

}  // namespace llmlaunch::launcher
