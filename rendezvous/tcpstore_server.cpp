// Bytes in and out of TCPStore connections, as in server.cpp.
#include "rendezvous/tcpstore_server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "rendezvous/listener.hpp"
#include "rendezvous/peer_socket.hpp"

namespace llmlaunch::rendezvous {

using asio::ip::tcp;
using std::chrono::steady_clock;

namespace {

// A peer that comes again and again must not fill the terminal.
constexpr std::size_t kSaidOfStore = 20;

// VALIDATE, as far as it has come: a PyTorch, and no stranger that happens to begin with a small byte.
bool greets(ByteView begun) {
  const Bytes whole = tcpstore::encode({tcpstore::Verb::validate, {}, {}, tcpstore::kMagic});
  return begun.size() > 1 &&
         std::equal(begun.begin(), begun.begin() + std::min(begun.size(), whole.size()), whole.begin());
}

}  // namespace

struct TcpStoreServer::Peer : PeerSocket {
  using PeerSocket::PeerSocket;

  tcpstore::Decoder decoder;
  bool overfull = false;  // an answer is missing: it hears nothing more
  std::optional<Deadline> handshake;
};

void TcpStoreServer::take(tcp::socket socket, ByteView begun) {
  boost::system::error_code gone;
  const tcp::endpoint remote = socket.remote_endpoint(gone);
  if (gone) return;
  const std::string address = name_address(remote.address());
  if (!admitted_.contains(address)) return turn_away(address, begun);
  const PeerId id{next_peer_++};
  auto peer = std::make_shared<Peer>(std::move(socket), id);
  peers_.emplace(id, peer);
  carry_out(state_.on_connect(id, name_endpoint(remote)));
  if (peer->closed) return;
  peer->handshake.emplace(executor_, kHandshakeTimeout, [weak = weak_from_this(), id] {
    if (const Self self = weak.lock()) self->carry_out(self->state_.on_late(id));
  });
  spawn_or_die(executor_, "store reader", read(shared_from_this(), peer, Bytes(begun.begin(), begun.end())));
}

asio::awaitable<void> TcpStoreServer::read(Self self, std::shared_ptr<Peer> peer, Bytes begun) {
  ByteView rest = begun;
  while (self->serve(*peer, rest)) co_await peer->caught_up();
  while (!peer->closed) {
    auto [error, count] = co_await peer->socket.async_read_some(peer->read_buffer(), await_tuple);
    if (peer->closed) co_return;
    if (error) co_return self->lose(peer);
    rest = peer->received(count);
    // One read may hold many small requests with large answers.
    while (self->serve(*peer, rest)) co_await peer->caught_up();
    peer->fit_buffer(count);
  }
}

// Takes what it uses off the front of `bytes`. True: the peer is behind, and there is more.
bool TcpStoreServer::serve(Peer& peer, ByteView& bytes) {
  reading_ = true;
  bool more = false;
  while (!peer.closed) {
    more = peer.is_behind();
    if (more) break;
    auto command = peer.decoder.next(bytes);
    if (!command) {
      carry_out(state_.on_malformed(peer.id, command.error()));
      break;
    }
    if (!*command) break;
    carry_out(state_.on_command(peer.id, std::move(**command)));
    peer.handshake.reset();  // the first one has decided
  }
  reading_ = false;
  write_all();
  return more && !peer.closed;
}

// While the peer does not take what is sent.
asio::awaitable<void> TcpStoreServer::write(Self self, std::shared_ptr<Peer> peer) {
  const auto error = co_await peer->write_rest();
  if (error) self->lose(peer);
}

void TcpStoreServer::write_all() {
  write_to_all(std::exchange(unsent_, {}),
               [this](const std::shared_ptr<Peer>& peer, const boost::system::error_code& error) {
                 if (error == asio::error::would_block) {
                   peer->writing = true;
                   spawn_or_die(executor_, "store writer", write(shared_from_this(), peer));
                 } else if (error) {
                   // Not from within the actions of another.
                   asio::post(executor_, [self = shared_from_this(), peer] { self->lose(peer); });
                 }
               });
}

// The connection has ended by itself.
void TcpStoreServer::lose(const std::shared_ptr<Peer>& peer) {
  if (peer->closed) return;
  forget(peer);
  carry_out(state_.on_disconnect(peer->id));
}

void TcpStoreServer::carry_out(tcpstore::StoreActions actions) {
  for (tcpstore::StoreAction& action : actions) {
    if (auto* one = std::get_if<tcpstore::Answer>(&action))
      answer(*one);
    else if (auto* change = std::get_if<tcpstore::Changed>(&action))
      on_change_(std::move(*change));
    else
      hang_up(std::get<tcpstore::Hangup>(action));
  }
  if (!reading_) write_all();
}

Message TcpStoreServer::answer_native(Message request) {
  auto [reply, actions] = state_.on_request(std::move(request));
  carry_out(std::move(actions));
  return std::move(reply);
}

void TcpStoreServer::answer(tcpstore::Answer& answer) {
  const auto found = peers_.find(answer.peer);
  if (found == peers_.end()) return;
  const std::shared_ptr<Peer>& peer = found->second;
  if (peer->overfull) return;
  if (peer->push({std::move(answer.bytes), std::move(answer.value)})) {
    if (!std::exchange(peer->unsent, true)) unsent_.push_back(peer);
    return;
  }
  peer->overfull = true;
  // Not from within the actions of another: those that follow may be for this one.
  asio::post(executor_, [self = shared_from_this(), id = answer.peer] {
    self->carry_out(self->state_.on_malformed(
        id, make_error(Errc::too_large, fmt::format("more than {} bytes wait for it, the limit", kMaxQueuedBytes))));
  });
}

void TcpStoreServer::hang_up(const tcpstore::Hangup& hangup) {
  const auto found = peers_.find(hangup.peer);
  if (found == peers_.end()) return;
  if (hangup.at_fault)
    say(LogLevel::warning, "closed the connection of " + to_string(hangup.reason));
  else
    log_debug("rendezvous: PyTorch's store: closed the connection of {}", to_string(hangup.reason));
  forget(found->second);
}

void TcpStoreServer::forget(const std::shared_ptr<Peer>& peer) {
  const std::shared_ptr<Peer> held = peer;  // `peer` may stand in the map
  held->handshake.reset();
  held->shut();
  peers_.erase(held->id);
}

void TcpStoreServer::turn_away(const std::string& address, ByteView begun) {
  const std::string text = fmt::format("refused a connection from {}, which is no address of the job's hosts", address);
  if (!greets(begun)) return say(LogLevel::info, text);
  say(LogLevel::warning, text +
                             "\n   hint: when a rank comes from there (another network, NAT), add it to "
                             "llmlaunch.rendezvous.allow_from");
}

void TcpStoreServer::say(LogLevel level, const std::string& text) {
  if (said_ >= kSaidOfStore) return;
  log_line(level, "rendezvous: PyTorch's store: " + text);
  if (++said_ == kSaidOfStore) log_line(level, "rendezvous: PyTorch's store: further ones are not shown");
}

void TcpStoreServer::end(const std::string& reason) {
  carry_out(state_.end(reason));
}

}  // namespace llmlaunch::rendezvous
