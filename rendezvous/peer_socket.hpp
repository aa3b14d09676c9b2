/// \file
/// A connection of either dialect: its socket, and what is to be written to it. Private to this directory.
#pragma once

#include <deque>
#include <utility>

#include "rendezvous/asio.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous {

/// Shared by a peer's reader and writer: `wake` tells the writer of news, and the reader, when it paused, hears from
/// `drained` that the queue is short again.
struct PeerSocket {
  PeerSocket(asio::ip::tcp::socket accepted, PeerId number);

  /// The bytes in front of a value, and the value, which other answers may share; null for none.
  using Piece = std::pair<Bytes, SharedBytes>;
  /// False when more than kMaxQueuedBytes would wait: the peer does not read, and the piece is not taken.
  bool push(Piece piece);
  /// Writes the oldest piece. Once it has failed nothing may be written to this socket. Who awaits it holds this.
  asio::awaitable<boost::system::error_code> write_first();
  /// Closes the socket and wakes both coroutines. Idempotent.
  void shut();

  asio::ip::tcp::socket socket;
  PeerId id;
  std::deque<Piece> queue;
  std::size_t queued_bytes = 0;
  bool closed = false;
  asio::steady_timer wake;
  asio::steady_timer drained;
};

}  // namespace llmlaunch::rendezvous
