// The ways to make a `Transport` that need no protocol; see transport.hpp.
#include "launcher/ssh/transport.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {

Transport over_tcp(TcpConnector::Socket socket) {
  boost::system::error_code gone;  // then the first read says so
  std::string head = socket.local_endpoint(gone).address().to_string();
  std::string host = socket.remote_endpoint(gone).address().to_string();
  const auto executor = socket.get_executor();
  const int fd = socket.release(gone);
  return {asio::posix::stream_descriptor(executor, fd), std::move(head), host, host};
}

Result<SocketPair> make_socket_pair(const asio::any_io_executor& executor) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error(errno, "socketpair");
  asio::posix::stream_descriptor ours(executor, ends[0]);
  boost::system::error_code error;
  ours.native_non_blocking(true, error);
  if (!error) return SocketPair{std::move(ours), ends[1]};
  ::close(ends[1]);
  return from_asio(error, "socketpair");
}

std::string own_far_address() {
  constexpr const char* kDocumentation = "192.0.2.1";  // RFC 5737: belongs to nobody, so the default route leads there
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in there{}, here{};
  there.sin_family = AF_INET;
  there.sin_port = htons(9);
  ::inet_pton(AF_INET, kDocumentation, &there.sin_addr);
  socklen_t size = sizeof(here);
  std::array<char, INET_ADDRSTRLEN> text{};
  const bool found = fd && ::connect(fd.value(), reinterpret_cast<const sockaddr*>(&there), sizeof(there)) == 0 &&
                     ::getsockname(fd.value(), reinterpret_cast<sockaddr*>(&here), &size) == 0 &&
                     ::inet_ntop(AF_INET, &here.sin_addr, text.data(), text.size()) != nullptr;
  return found ? text.data() : "127.0.0.1";  // without a route there is nothing else to name
}

}  // namespace llmlaunch::launcher::ssh
