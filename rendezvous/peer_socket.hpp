/// \file
/// A connection of either dialect: its socket, and what is to be written to it. Private to this directory. Ten thousand
/// of them are ten thousand ranks, so one that is idle holds little: no large buffer, and no coroutine but its reader.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/parallel.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous {

/// Answers are written at once, as far as the kernel takes them; only what is left then has a writer, a coroutine that
/// waits until the socket is writable. `writing` says that there is one.
class PeerSocket {
 public:
  PeerSocket(asio::ip::tcp::socket accepted, PeerId number);

  /// The bytes in front of a value, and the value, which other answers may share; null for none.
  using Piece = std::pair<Bytes, SharedBytes>;
  /// False when more than kMaxQueuedBytes would wait: the peer does not read, and the piece is not taken.
  bool push(Piece piece);
  std::size_t unwritten_bytes() const { return queued_bytes_; }
  /// So much waits that the peer's further requests stay unread.
  bool is_behind() const { return queued_bytes_ > kPauseQueuedBytes; }

  /// Writes what the kernel takes without waiting. `would_block` when something is left; any other error ends the
  /// connection, and nothing may be written after it.
  boost::system::error_code write_now();
  /// `write_now` in two steps, for thousands of peers: the first may be another thread's while the socket's own waits
  /// for it, the second is the own thread's.
  boost::system::error_code send_queued();
  void wake_reader();
  /// For the writer: waits for the socket and writes, until all is written or the socket is shut. What ended the
  /// connection, as `write_now`.
  asio::awaitable<boost::system::error_code> write_rest();
  /// Until the peer is not behind any more or the socket is shut.
  asio::awaitable<void> caught_up();

  /// Where to read to. Larger for a peer that sends much.
  asio::mutable_buffer read_buffer() { return asio::buffer(buffer_); }
  ByteView received(std::size_t count) const { return ByteView(buffer_).first(count); }
  /// After so many bytes were read and used.
  void fit_buffer(std::size_t count);

  /// Closes the socket and wakes its coroutines. Idempotent.
  void shut();

  asio::ip::tcp::socket socket;
  PeerId id;
  bool closed = false;
  bool writing = false;  ///< a writer waits for the socket
  bool unsent = false;   ///< its owner will call `write_now`

 private:
  void wrote(std::size_t count);

  std::vector<Piece> queue_;
  std::size_t first_ = 0;       // in queue_: those before are written
  std::size_t first_sent_ = 0;  // bytes of the first piece that are
  std::size_t queued_bytes_ = 0;
  Bytes buffer_;
  std::unique_ptr<asio::steady_timer> waiting_reader_;  // expires never; canceled when it may go on
};

/// Writes to each of `peers` (shared_ptr to PeerSockets) that is open and has no writer, and calls
/// `written(peer, error)` for each of these, with what `write_now` gives. What one key or one end means for thousands
/// is sent by several threads.
template <class Peers, class Written>
void write_to_all(Peers peers, const Written& written) {
  for (const auto& peer : peers) peer->unsent = false;
  const auto has_no_turn = [](const auto& peer) { return peer->closed || peer->writing; };
  const std::size_t threads = threads_for(peers.size());
  if (threads == 1) {
    for (const auto& peer : peers) {
      if (!has_no_turn(peer)) written(peer, peer->write_now());
    }
    return;
  }
  std::erase_if(peers, has_no_turn);
  std::vector<boost::system::error_code> errors(peers.size());
  in_parallel(peers.size(), threads, [&](std::size_t index) { errors[index] = peers[index]->send_queued(); });
  for (std::size_t index = 0; index < peers.size(); ++index) {
    peers[index]->wake_reader();
    written(peers[index], errors[index]);
  }
}

}  // namespace llmlaunch::rendezvous
