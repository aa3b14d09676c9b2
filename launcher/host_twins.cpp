// Compares what the file says of addresses and ports; what ~/.ssh/config adds is by address, so the same for both.
#include "launcher/host_twins.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <unordered_map>

#include "launcher/hostlist.hpp"

namespace llmlaunch::launcher {
namespace {

std::string canonical(const std::string& address) {
  in6_addr bytes{};
  char text[INET6_ADDRSTRLEN] = {};
  if (::inet_pton(AF_INET6, address.c_str(), &bytes) == 1) return ::inet_ntop(AF_INET6, &bytes, text, sizeof text);
  std::string lower = address;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

}  // namespace

void note_host_twins(const std::vector<HostConfig>& hosts, const LaunchPlan& plan, std::vector<std::string>& notes) {
  std::unordered_map<std::string, std::size_t> places;
  std::vector<std::vector<std::size_t>> groups;  // in the order of their first hosts
  for (std::size_t i = 0; i < plan.hosts.size(); ++i) {
    const HostPlan& host = plan.hosts[i];
    if (host.local) continue;
    const auto [place, added] = places.emplace(
        fmt::format("{} {} {}", canonical(host.address), host.port.value_or(0), host.proxy_jump.value_or("")),
        groups.size());
    if (added) groups.emplace_back();
    groups[place->second].push_back(i);
  }
  for (const auto& group : groups) {
    if (group.size() < 2) continue;
    std::vector<std::string> names;
    for (const std::size_t i : group) names.push_back(plan.hosts[i].name);
    const HostPlan& first = plan.hosts[group.front()];
    const std::string& where = hosts[group[1]].where;
    notes.push_back(
        fmt::format("{}hosts {} are one: all are reached at {}, {}, and share its cores and GPUs; for more ranks "
                    "on one host set its 'slots'",
                    where.empty() ? "" : where + ": ", compress_hostlist(names), first.address,
                    first.port ? fmt::format("port {}", *first.port) : "ssh's own port"));
  }
}

}  // namespace llmlaunch::launcher
