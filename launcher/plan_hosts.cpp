// Two entries for one machine would give its GPUs to two sets of ranks, each of which believes that it has them alone.
#include "launcher/plan_hosts.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "launcher/plan_env.hpp"

namespace llmlaunch::launcher {
namespace {

/// One spelling for an address: 2001:db8:0::1 is 2001:db8::1, ::ffff:10.0.0.1 is 10.0.0.1, GPU01 is gpu01.
std::string canonical(const std::string& address) {
  in6_addr bytes{};
  char text[INET6_ADDRSTRLEN] = {};
  if (::inet_pton(AF_INET6, address.c_str(), &bytes) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&bytes)) return ::inet_ntop(AF_INET, &bytes.s6_addr[12], text, sizeof text);
    return ::inet_ntop(AF_INET6, &bytes, text, sizeof text);
  }
  std::string lower = address;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

}  // namespace

Result<void> check_one_name_each(const Config& config, const std::vector<HostConfig>& hosts) {
  std::unordered_map<std::string, const HostConfig*> seen;
  for (const auto& host : hosts) {
    const std::string address = canonical(host.address.value_or(host.name));
    const auto port = host.port ? host.port : config.ssh.port;
    const auto jumps = host.proxy_jump ? host.proxy_jump : config.ssh.proxy_jump;
    const std::string place = fmt::format("{} port {} by {}", address, port.value_or(0), jumps.value_or(""));
    const auto [other, added] = seen.emplace(place, &host);
    if (added) continue;
    const HostConfig& first = *other->second;
    return make_error(Errc::invalid_config,
                      fmt::format("hosts '{}' and '{}' are the same: {}{}", first.name, host.name, address,
                                  port ? fmt::format(" port {}", *port) : ""),
                      host.where.empty() ? place_of(config, "llmlaunch.hosts") : host.where,
                      fmt::format("{}for more ranks on one host set its 'slots'",
                                  first.where.empty() || first.where == host.where
                                      ? ""
                                      : fmt::format("the first one is at {}; ", first.where)));
  }
  return ok;
}

}  // namespace llmlaunch::launcher
