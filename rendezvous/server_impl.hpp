/// \file
/// What a `Server` is made of. Private to server*.cpp.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/peer_socket.hpp"
#include "rendezvous/server.hpp"
#include "rendezvous/tcpstore_server.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous {

struct Server::Impl : std::enable_shared_from_this<Impl> {
  struct Peer : PeerSocket {
    using PeerSocket::PeerSocket;

    MessageDecoder decoder{MessageDecoder::Side::server};
    bool closing = false;  // the world has no more to say: write the queue, then close
    std::optional<Deadline> linger;
  };

  Impl(asio::any_io_executor on, asio::ip::tcp::acceptor listening, WorldState decides, TlsFunction tls,
       std::shared_ptr<TcpStoreServer> pytorch)
      : executor(std::move(on)),
        acceptor(std::move(listening)),
        tick(executor),
        world(std::move(decides)),
        on_tls(std::move(tls)),
        store(std::move(pytorch)) {}

  using Self = std::shared_ptr<Impl>;
  static asio::awaitable<void> accept(Self self);
  static asio::awaitable<void> read(Self self, std::shared_ptr<Peer> peer);
  static asio::awaitable<void> write(Self self, std::shared_ptr<Peer> peer);
  void carry_out(Actions actions);
  void perform(Actions actions);
  void tell_pytorch_changes();
  bool send(PeerId id, const Message& message);
  void write_all();
  void written(const std::shared_ptr<Peer>& peer, const boost::system::error_code& error);
  void will_write(const std::shared_ptr<Peer>& peer);
  bool answer_requests(Peer& peer);
  void close(PeerId id, const std::optional<Error>& reason);
  void forget(const std::shared_ptr<Peer>& peer, const Error& reason);
  void arm_tick();
  bool hand_over(const std::shared_ptr<Peer>& peer, ByteView begun);

  asio::any_io_executor executor;
  asio::ip::tcp::acceptor acceptor;
  asio::steady_timer tick;
  bool tick_armed = false;
  WorldState world;
  TlsFunction on_tls;
  std::shared_ptr<TcpStoreServer> store;  // null: TCPStore is not served
  std::uint64_t next_peer = 1;
  std::size_t refusals = 0;
  SharedBytes end_frame;  // null: the generation has not ended
  std::unordered_map<PeerId, std::shared_ptr<Peer>> peers;
  std::vector<std::shared_ptr<Peer>> unsent;  // have something to be written, or to be closed when all is
  bool reading = false;                       // the requests of one read are being answered: writes come after them
  bool closed = false;
  bool carrying_out = false;
  std::deque<tcpstore::Changed> pytorch_changes;  // while actions are carried out: the world hears of them afterwards
};

}  // namespace llmlaunch::rendezvous
