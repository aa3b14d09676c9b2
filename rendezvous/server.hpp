/// \file
/// The rendezvous of one job, served on the head: one TCP port, bound before any host is told its number. A shell
/// around `WorldState`, which decides. Belongs to the thread of its executor. What the user should know goes to the
/// log: a warning when this generation cannot succeed (ranks are missing at the join deadline, their NCCL differs),
/// while the ranks that wait are told and end with it; who came and went only with LogLevel::debug.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rendezvous/address_list.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::rendezvous {

/// A connection that began with a TLS record, which no rank does: whose it is then. `from` is its address for
/// messages, `begun` what was read of it so far, at least a byte.
using TlsFunction = std::function<void(asio::ip::tcp::socket socket, std::string from, Bytes begun)>;

/// A port that is listened at before its server is made: who has it is settled then. Connections wait meanwhile.
class HeldPort {
 public:
  /// As `Server::start` binds, with its errors; but nothing when another program has the port.
  static Result<std::optional<HeldPort>> take(const std::string& bind_address, std::uint16_t port);
  ~HeldPort();
  HeldPort(HeldPort&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), six_(other.six_) {}
  HeldPort& operator=(HeldPort&& other) noexcept;

 private:
  friend class Server;
  HeldPort(int descriptor, bool six) : descriptor_(descriptor), six_(six) {}
  Result<asio::ip::tcp::acceptor> hand_over(const asio::any_io_executor& executor);
  int descriptor_;
  bool six_;
};

struct ServerOptions {
  std::string job_id;
  std::string token;  ///< 64 hex digits
  Generation generation{};
  std::vector<std::string> hosts;  ///< host of each rank, index = rank; its size is the world size
  std::string bind_address;        ///< empty: all addresses, IPv6 and IPv4
  std::uint16_t port = 0;          ///< 0: the kernel chooses
  HeldPort* held = nullptr;        ///< instead of these two; taken over by `start`
  std::string hint_if_taken;       ///< what to do where another program has the port; empty: the usual words
  /// From the first rank's join; then waiters get the list of missing ranks. A job whose program never joins has none.
  std::chrono::milliseconds join_timeout{300'000};
  TlsFunction on_tls;  ///< empty: such a connection is malformed
  /// Serve PyTorch's TCPStore, too, to whom `admit_store_clients` names: the dialect knows no secret.
  bool tcpstore = false;
};

class Server {
 public:
  /// Binds and listens. `Errc::io` with address and port when that fails (port in use: the hint says so).
  static Result<std::unique_ptr<Server>> start(asio::any_io_executor executor, ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Descriptors that a server for so many ranks holds at most, whoever connects.
  static std::size_t most_sockets(std::size_t world_size);
  /// Descriptors beside these for TCPStore's clients, which are ranks of the job.
  static std::size_t most_store_sockets(std::size_t world_size);

  std::uint16_t port() const;

  /// Who may use the TCPStore dialect. Before, and without `ServerOptions::tcpstore`, nobody may.
  void admit_store_clients(AddressList addresses);

  /// The process of this rank has ended well: where it had not joined, nobody waits for it until the join deadline.
  void note_ended(Rank rank);

  /// Pushes the end to every client, refuses all later requests of this generation. TCPStore clients, whose dialect has
  /// no word for it, lose their connections.
  void end_generation(std::string reason);

  /// Closes listener and connections. Idempotent.
  void close();

  std::uint32_t joined() const;  ///< ranks that have joined so far

 private:
  struct Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// A fresh job token: 256 bits of the kernel's randomness as 64 hex digits.
std::string make_token();

}  // namespace llmlaunch::rendezvous
