// The kernel's routes and interfaces, as addresses.
#include "trainer/gloo_address.hpp"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace llmlaunch::trainer {

Result<std::string> local_address_towards(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  const std::string place = fmt::format("{}:{}", address, port);
  if (const int code = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list); code != 0) {
    return make_error(Errc::not_found, fmt::format("getaddrinfo: {}", ::gai_strerror(code)), place);
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  int failure = 0;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    const int fd = ::socket(entry->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage local{};
    socklen_t length = sizeof local;
    // Connecting a datagram socket sends nothing: it makes the kernel choose route and source address.
    const bool found = fd >= 0 && ::connect(fd, entry->ai_addr, entry->ai_addrlen) == 0 &&
                       ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0;
    failure = errno;
    if (fd >= 0) ::close(fd);
    char text[NI_MAXHOST] = {};
    if (found && ::getnameinfo(reinterpret_cast<sockaddr*>(&local), length, text, sizeof text, nullptr, 0,
                               NI_NUMERICHOST) == 0) {
      return std::string(text);
    }
  }
  return system_error(failure, "no route to the rendezvous", place);
}

Result<std::string> address_of_interface(const std::string& name) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return system_error(errno, "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  std::string others;
  std::string found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    const int family = entry->ifa_addr == nullptr ? AF_UNSPEC : entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (entry->ifa_name != name) {
      const std::string other = entry->ifa_name;
      if (others.find(other) == std::string::npos) others += (others.empty() ? "" : ", ") + other;
      continue;
    }
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    char text[NI_MAXHOST] = {};
    if (::getnameinfo(entry->ifa_addr, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    if (family == AF_INET) return std::string(text);  // IPv4 first: an IPv6 address may be link-local only
    if (found.empty()) found = text;
  }
  if (!found.empty()) return found;
  return make_error(Errc::invalid_config,
                    fmt::format("no network interface '{}' with an address (there are: {})", name, others), {},
                    "GLOO_SOCKET_IFNAME names one; without it the interface that reaches the rendezvous is used");
}

}  // namespace llmlaunch::trainer
