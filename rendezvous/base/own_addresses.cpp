// Asks the kernel, and no name service.
#include "rendezvous/base/own_addresses.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <memory>

namespace llmlaunch {

Result<std::vector<InterfaceAddress>> own_interfaces() {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return system_error(errno, "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(found, &::freeifaddrs);
  std::vector<InterfaceAddress> addresses;
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0) continue;
    char text[INET6_ADDRSTRLEN] = {};
    const bool loopback = (each->ifa_flags & IFF_LOOPBACK) != 0;
    if (each->ifa_addr->sa_family == AF_INET) {
      const auto* four = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
      addresses.push_back({each->ifa_name, ::inet_ntop(AF_INET, &four->sin_addr, text, sizeof text), loopback});
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      const auto* six = reinterpret_cast<const sockaddr_in6*>(each->ifa_addr);
      addresses.push_back({each->ifa_name, ::inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text), loopback});
    }
  }
  return addresses;
}

Result<std::vector<std::string>> own_addresses() {
  const auto interfaces = own_interfaces();
  if (!interfaces) return interfaces.error();
  std::vector<std::string> addresses;
  for (const InterfaceAddress& one : *interfaces) addresses.push_back(one.address);
  return addresses;
}

std::string own_host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size()) != 0 || name.front() == '\0') return "?";
  return name.data();
}

}  // namespace llmlaunch
