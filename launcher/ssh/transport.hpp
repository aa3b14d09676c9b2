/// \file
/// `Transport`: the byte stream to an sshd, however it was made: a TCP connection, a connection that a jump host makes,
/// or the stdin and stdout of a ProxyCommand. `Session` speaks ssh over it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launcher/tcp_connect.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::launcher::ssh {

struct Transport {
  asio::posix::stream_descriptor stream;  ///< a connected socket
  std::string head_address;  ///< of the head as the host sees it, or may: there may be a machine in between
  std::string host_address;  ///< of the host: digits, or the name that others know it by
  std::string peer;          ///< for messages: "10.0.0.7", "gpu07 behind bastion"
  /// Why the way itself has ended, when it has: a jump host that is gone. Filled in by who makes it.
  std::shared_ptr<const std::optional<Error>> ended = nullptr;
  /// Called once when nobody needs it any more; may be empty.
  std::function<void()> on_close = nullptr;
};

Transport over_tcp(TcpConnector::Socket socket);

/// A connected pair of local sockets, ours not blocking. `theirs` is closed on exec and not when it is forgotten.
struct SocketPair {
  asio::posix::stream_descriptor ours;
  int theirs = -1;
};
Result<SocketPair> make_socket_pair(const asio::any_io_executor& executor);

/// The address of this machine that connections to far networks leave from, as digits. No packet is sent.
std::string own_far_address();

}  // namespace llmlaunch::launcher::ssh
