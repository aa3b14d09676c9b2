/// \file
/// The sockets of the TCPStore dialect: a shell around `tcpstore::State`. `Server` gives it each connection that begins
/// as this dialect's do. Private to this directory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "rendezvous/address_list.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/tcpstore_state.hpp"

namespace llmlaunch::rendezvous {

/// Lives in a shared_ptr: its coroutines hold it.
class TcpStoreServer : public std::enable_shared_from_this<TcpStoreServer> {
 public:
  TcpStoreServer(asio::any_io_executor executor, tcpstore::Limits limits)
      : executor_(std::move(executor)), state_(limits) {}

  /// From now on these are served; before, nobody is.
  void admit(AddressList addresses) { admitted_ = std::move(addresses); }

  /// A connection and what was read of it so far. Closed at once when its address is none of those admitted.
  void take(asio::ip::tcp::socket socket, ByteView begun);

  /// A request of the native dialect for these keys, and its answer.
  Message answer_native(Message request);
  /// Whether `on_change` hears of changes from now on, in their order. It may be called from within any other function.
  void observe(bool watched) { state_.observe(watched); }
  void on_change(std::function<void(tcpstore::Changed)> listener) { on_change_ = std::move(listener); }

  /// Closes all connections, and those that come later.
  void end(const std::string& reason);

 private:
  struct Peer;
  using Self = std::shared_ptr<TcpStoreServer>;
  static asio::awaitable<void> read(Self self, std::shared_ptr<Peer> peer, Bytes begun);
  static asio::awaitable<void> write(Self self, std::shared_ptr<Peer> peer);
  bool serve(Peer& peer, ByteView& bytes);
  void write_all();
  void lose(const std::shared_ptr<Peer>& peer);
  void carry_out(tcpstore::StoreActions actions);
  void answer(tcpstore::Answer& answer);
  void hang_up(const tcpstore::Hangup& hangup);
  void forget(const std::shared_ptr<Peer>& peer);
  void turn_away(const std::string& address, ByteView begun);
  void say(LogLevel level, const std::string& text);

  asio::any_io_executor executor_;
  AddressList admitted_;
  tcpstore::State state_;
  std::function<void(tcpstore::Changed)> on_change_;
  std::uint64_t next_peer_ = 1;
  std::size_t said_ = 0;
  std::unordered_map<PeerId, std::shared_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> unsent_;  // have something to be written
  bool reading_ = false;                       // the requests of one read are being answered: writes come after them
};

}  // namespace llmlaunch::rendezvous
