// The connections of a server: accepts, reads, writes, waits for the world's next deadline, and carries out its
// actions. Decides nothing about the job. One reader coroutine per peer, and a writer while the peer does not take what
// is sent; all on the executor's thread.
#include <fmt/format.h>
#include <sys/socket.h>

#include <set>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/tcp_tuning.hpp"
#include "rendezvous/listener.hpp"
#include "rendezvous/message.hpp"
#include "rendezvous/server_impl.hpp"

namespace llmlaunch::rendezvous {
namespace {

using asio::ip::tcp;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Pause after an accept that failed for want of descriptors or memory, which would fail again at once.
constexpr milliseconds kAcceptPause{100};
// A port scanner must not fill the terminal.
constexpr std::size_t kShownRefusals = 20;
// A closed peer gets this long to read what was sent before.
constexpr milliseconds kLingerTimeout{5'000};

// A handshake record of TLS. The native dialect begins with a letter, TCPStore's with a small number.
bool begins_tls(ByteView bytes) {
  return !bytes.empty() && bytes[0] == std::byte{0x16} && (bytes.size() < 2 || bytes[1] == std::byte{0x03});
}

}  // namespace

asio::awaitable<void> Server::Impl::accept(Self self) {
  bool failing = false;
  while (!self->closed) {
    auto [error, socket] = co_await self->acceptor.async_accept(await_tuple);
    if (self->closed) co_return;
    if (error) {
      // Once, however long it lasts.
      if (!std::exchange(failing, true)) log_warning("rendezvous: no connection can be taken: {}", error.message());
      asio::steady_timer pause(self->executor, kAcceptPause);
      co_await pause.async_wait(await_tuple);
      continue;
    }
    if (std::exchange(failing, false)) log_info("rendezvous: connections are taken again");
    boost::system::error_code gone;
    const tcp::endpoint remote = socket.remote_endpoint(gone);
    if (gone) continue;
    tune_connection(socket.native_handle());
    const PeerId id{self->next_peer++};
    auto peer = std::make_shared<Peer>(std::move(socket), id);
    self->peers.emplace(id, peer);
    spawn_or_die(self->executor, "rendezvous reader", read(self, peer));
    self->carry_out(self->world.on_connect(id, name_endpoint(remote), make_nonce(), steady_clock::now()));
  }
}

asio::awaitable<void> Server::Impl::read(Self self, std::shared_ptr<Peer> peer) {
  bool first = true;
  while (!peer->closed) {
    auto [error, count] = co_await peer->socket.async_read_some(peer->read_buffer(), await_tuple);
    if (peer->closed) co_return;
    if (error) {
      self->forget(peer, from_asio(error, "the connection ended"));
      co_return;
    }
    const ByteView got = peer->received(count);
    if (std::exchange(first, false) && !peer->closing && self->hand_over(peer, got)) co_return;
    if (peer->closing) continue;  // read on, lest unread bytes turn the close into a reset that swallows our last words
    peer->decoder.feed(got);
    peer->fit_buffer(count);
    // One read may hold many small requests with large answers.
    while (self->answer_requests(*peer)) co_await peer->caught_up();
  }
}

// What was read of the peer. True: it is behind, and has more.
bool Server::Impl::answer_requests(Peer& peer) {
  reading = true;
  bool more = false;
  while (!peer.closed && !peer.closing) {
    more = peer.is_behind();
    if (more) break;
    auto message = peer.decoder.next();
    if (!message) {
      carry_out(world.on_malformed(peer.id, message.error(), steady_clock::now()));
      break;
    }
    if (!*message) break;
    carry_out(world.on_message(peer.id, std::move(**message), steady_clock::now()));
    if (world.is_admitted(peer.id)) peer.decoder.allow_large_frames();
  }
  reading = false;
  write_all();
  return more && !peer.closed;
}

// While the peer does not take what is sent.
asio::awaitable<void> Server::Impl::write(Self self, std::shared_ptr<Peer> peer) {
  const auto error = co_await peer->write_rest();
  if (!peer->closed) self->written(peer, error);
}

void Server::Impl::write_all() {
  write_to_all(std::exchange(unsent, {}),
               [this](const std::shared_ptr<Peer>& peer, const boost::system::error_code& error) {
                 if (error != asio::error::would_block) return written(peer, error);
                 peer->writing = true;
                 spawn_or_die(executor, "rendezvous writer", write(shared_from_this(), peer));
               });
}

// All that was to be sent, or what ended the connection.
void Server::Impl::written(const std::shared_ptr<Peer>& peer, const boost::system::error_code& error) {
  if (error) return forget(peer, from_asio(error, "the connection ended"));
  if (!peer->closing) return;
  boost::system::error_code ignored;  // the peer may be gone already
  peer->socket.shutdown(tcp::socket::shutdown_send, ignored);
  // The reader sees the peer's end, or the linger deadline does.
}

// What actions bring about in PyTorch's store comes back to the world when they are done.
void Server::Impl::carry_out(Actions actions) {
  const bool inner = std::exchange(carrying_out, true);
  perform(std::move(actions));
  carrying_out = inner;
  if (closed || inner) return;
  if (store) store->observe(world.watches_pytorch());
  tell_pytorch_changes();
}

void Server::Impl::tell_pytorch_changes() {
  while (!pytorch_changes.empty() && !closed) {
    const tcpstore::Changed change = std::move(pytorch_changes.front());
    pytorch_changes.pop_front();
    carry_out(world.on_pytorch_change(change.key, change.value));
  }
}

void Server::Impl::perform(Actions actions) {
  std::set<std::pair<PeerId, std::uint32_t>> slow;  // watches of which a change was not queued, and so no later one is
  for (Action& action : actions) {
    if (closed) return;
    if (auto* sent = std::get_if<Send>(&action)) {
      const auto* change = std::get_if<Change>(&sent->message);
      if (change == nullptr)
        send(sent->peer, sent->message);
      else if (!slow.contains({sent->peer, change->request}) && !send(sent->peer, sent->message))
        slow.emplace(sent->peer, change->request);
    }
    if (auto* asked = std::get_if<AskPyTorch>(&action))
      send(asked->peer, store->answer_native(std::move(asked->request)));  // the world knows that there is one
    if (auto* ended = std::get_if<Close>(&action)) close(ended->peer, ended->reason);
    if (std::holds_alternative<Complete>(action)) log_debug("rendezvous: all ranks have joined");
    if (auto* failed = std::get_if<FailJob>(&action)) log_warning("rendezvous: {}", to_string(failed->reason));
    // News, not a verdict: its agent knows how it ended.
    if (auto* lost = std::get_if<RankLost>(&action)) {
      log_debug("rendezvous: rank {} went without a word: {}", number(lost->rank), to_string(lost->reason));
    }
  }
  for (const auto& [peer, request] : slow) carry_out(world.on_slow_watcher(peer, request));
  if (!reading) write_all();
  arm_tick();
}

void Server::Impl::will_write(const std::shared_ptr<Peer>& peer) {
  if (!std::exchange(peer->unsent, true)) unsent.push_back(peer);
}

// False: a change that its peer is too slow for.
bool Server::Impl::send(PeerId id, const Message& message) {
  const auto found = peers.find(id);
  if (found == peers.end()) return true;
  const std::shared_ptr<Peer> peer = found->second;
  if (peer->closed || peer->closing) return true;
  if (std::holds_alternative<Ended>(message) && !end_frame)
    end_frame = std::make_shared<const Bytes>(encode(message));  // for all: the generation ends once
  auto piece = std::holds_alternative<Ended>(message) ? PeerSocket::Piece({}, end_frame) : encode_shared(message);
  const std::size_t bytes = piece.first.size() + (piece.second ? piece.second->size() : 0);
  if (std::holds_alternative<Change>(message) && peer->unwritten_bytes() + bytes > kMaxWatchQueuedBytes) return false;
  if (peer->push(std::move(piece)))
    will_write(peer);
  else
    forget(peer, make_error(Errc::too_large,
                            fmt::format("the peer does not read: more than {} bytes wait for it", kMaxQueuedBytes)));
  return true;
}

void Server::Impl::close(PeerId id, const std::optional<Error>& reason) {
  const auto found = peers.find(id);
  if (found == peers.end()) return;
  const std::shared_ptr<Peer> peer = found->second;
  if (reason && refusals < kShownRefusals) {
    log_info("rendezvous: closed the connection of {}: {}", reason->where, reason->what);
    if (++refusals == kShownRefusals) log_info("rendezvous: further closed connections are not shown");
  }
  peer->closing = true;
  // The world counts open connections; those that linger must not pile up behind its back.
  if (peers.size() > world.max_connections() + kSpareConnections)
    return forget(peer, make_error(Errc::closed, "closed"));
  peer->linger.emplace(executor, kLingerTimeout, [weak = std::weak_ptr<Peer>(peer), self = weak_from_this()] {
    const auto late = weak.lock();
    const auto alive = self.lock();
    if (late && alive) alive->forget(late, make_error(Errc::timed_out, "the peer did not close"));
  });
  will_write(peer);
}

// The socket is of no use any more: closes it and tells the world, which may have known.
void Server::Impl::forget(const std::shared_ptr<Peer>& peer, const Error& reason) {
  if (peer->closed) return;
  peer->linger.reset();
  peer->shut();
  peers.erase(peer->id);
  // Not from within another call of the world: this may run while its actions are carried out.
  asio::post(executor, [self = shared_from_this(), id = peer->id, reason] {
    if (!self->closed) self->carry_out(self->world.on_disconnect(id, reason, steady_clock::now()));
  });
}

// The first bytes tell whose a connection is. True: it goes on elsewhere.
bool Server::Impl::hand_over(const std::shared_ptr<Peer>& peer, ByteView begun) {
  const bool tls = on_tls && begins_tls(begun);
  if (!tls && !(store && tcpstore::may_begin(begun[0]))) return false;
  boost::system::error_code gone;
  const tcp::endpoint remote = peer->socket.remote_endpoint(gone);
  tcp::socket socket = std::move(peer->socket);
  forget(peer, make_error(Errc::closed, "it speaks another dialect"));  // to the world its peer has left
  if (gone) return true;
  if (tls)
    on_tls(std::move(socket), name_endpoint(remote), Bytes(begun.begin(), begun.end()));
  else
    store->take(std::move(socket), begun);
  return true;
}

void Server::Impl::arm_tick() {
  const auto next = world.next_deadline();
  if (!next || closed) {
    tick.cancel();
    tick_armed = false;  // its handler only hears that it was cancelled
    return;
  }
  if (tick_armed && tick.expiry() <= *next) return;  // early is harmless, and cheaper than anew for each message
  tick_armed = true;
  tick.expires_at(*next);
  tick.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || !self || self->closed) return;
    self->tick_armed = false;
    self->carry_out(self->world.on_tick(steady_clock::now()));
  });
}

}  // namespace llmlaunch::rendezvous
