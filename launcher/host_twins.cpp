// Compares what the file says of addresses and ports; what ~/.ssh/config adds is by address, so the same for both.
#include "launcher/host_twins.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <unordered_map>

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

Result<void> check_host_twins(const std::vector<HostConfig>& hosts, const LaunchPlan& plan) {
  std::unordered_map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < plan.hosts.size(); ++i) {
    const HostPlan& host = plan.hosts[i];
    if (host.local) continue;
    const std::string port = host.port ? fmt::format("port {}", *host.port) : "ssh's own port";
    const auto [other, added] =
        seen.emplace(fmt::format("{} {} {}", canonical(host.address), port, host.proxy_jump.value_or("")), i);
    if (added) continue;
    const HostConfig& first = hosts[other->second];
    return make_error(
        Errc::invalid_config,
        fmt::format("hosts '{}' and '{}' are one: both are reached at {}, {}", first.name, host.name, host.address,
                    port),
        hosts[i].where,
        fmt::format("{}for more ranks on one host set its 'slots'", first.where.empty() || first.where == hosts[i].where
                                                                        ? ""
                                                                        : "the first is at " + first.where + "; "));
  }
  return ok;
}

}  // namespace llmlaunch::launcher
