/// \file
/// A TCP connection to a host by name, for ssh and for a machine that calls in. Made by ourselves because libssh would
/// block in the name lookup and tries only one address, and no lookup of the C library can be given up. Addresses are
/// tried in the resolver's order, families in turn, the next one 250 ms after the last one or as soon as it has failed;
/// the first that answers wins (RFC 8305, without its lookup part).
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

struct TcpTarget {
  std::string host;  ///< a name or a literal address
  std::uint16_t port = 22;
  int family = AF_UNSPEC;
  std::chrono::milliseconds timeout{10'000};  ///< for lookup and connection, each
  // What to do, in the words of the caller:
  std::string name_hint = {};     ///< about a name that gives no address; begins after "check the name, or"
  std::string refused_hint = {};  ///< when nobody listens there
};

/// One attempt to connect. All calls from the executor's thread. A name lookup runs on a thread of its own, which ends
/// with the lookup and touches nothing of this object.
class TcpConnector : public std::enable_shared_from_this<TcpConnector> {
 public:
  using Socket = asio::ip::tcp::socket;
  explicit TcpConnector(asio::any_io_executor executor);

  /// `Errc::not_found`: no such name. Errc::refused, unreachable, timed_out: what the last address answered.
  /// Errc::canceled after `cancel`.
  asio::awaitable<Result<std::vector<asio::ip::tcp::endpoint>>> resolve(TcpTarget target);
  asio::awaitable<Result<Socket>> connect(std::vector<asio::ip::tcp::endpoint> endpoints, TcpTarget target);

  /// Makes a pending call fail. Idempotent.
  void cancel();

 private:
  void try_address(const asio::ip::tcp::endpoint& endpoint);
  Error failed(const TcpTarget& target) const;

  asio::any_io_executor executor_;
  asio::steady_timer wake_;
  std::vector<std::shared_ptr<Socket>> trying_;
  std::optional<Socket> winner_;
  std::optional<asio::posix::stream_descriptor> lookup_;
  boost::system::error_code last_failure_;
  std::string last_address_;
  std::size_t in_flight_ = 0;
  bool failed_since_ = false;  // an address has failed since the last one was started
  bool canceled_ = false;
};

/// "10.0.0.7:22", "[fd00::1]:22".
std::string to_text(const asio::ip::tcp::endpoint& endpoint);

}  // namespace llmlaunch::launcher
