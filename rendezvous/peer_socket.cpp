// What connections of both dialects have in common; see peer_socket.hpp.
#include "rendezvous/peer_socket.hpp"

#include <array>

namespace llmlaunch::rendezvous {
namespace {

const asio::steady_timer::time_point kNever = asio::steady_timer::time_point::max();

std::size_t piece_bytes(const PeerSocket::Piece& piece) {
  return piece.first.size() + (piece.second ? piece.second->size() : 0);
}

}  // namespace

PeerSocket::PeerSocket(asio::ip::tcp::socket accepted, PeerId number)
    : socket(std::move(accepted)),
      id(number),
      wake(socket.get_executor(), kNever),
      drained(socket.get_executor(), kNever) {}

bool PeerSocket::push(Piece piece) {
  const std::size_t bytes = piece_bytes(piece);
  if (queued_bytes + bytes > kMaxQueuedBytes) return false;
  queued_bytes += bytes;
  queue.push_back(std::move(piece));
  wake.cancel();
  return true;
}

asio::awaitable<boost::system::error_code> PeerSocket::write_first() {
  const Piece piece = std::move(queue.front());
  queue.pop_front();
  const std::array<asio::const_buffer, 2> parts = {asio::buffer(piece.first),
                                                   piece.second ? asio::buffer(*piece.second) : asio::const_buffer()};
  auto [error, count] = co_await asio::async_write(socket, parts, await_tuple);
  if (error) co_return error;
  queued_bytes -= count;
  if (queued_bytes <= kPauseQueuedBytes) drained.cancel();
  co_return error;
}

void PeerSocket::shut() {
  closed = true;
  boost::system::error_code ignored;  // the peer may be gone already
  socket.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket.close(ignored);
  wake.cancel();
  drained.cancel();
}

}  // namespace llmlaunch::rendezvous
