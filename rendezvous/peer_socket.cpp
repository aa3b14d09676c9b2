// What connections of both dialects have in common; see peer_socket.hpp.
#include "rendezvous/peer_socket.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace llmlaunch::rendezvous {
namespace {

// Most requests are smaller than the first; values of megabytes come in pieces of the second.
constexpr std::size_t kSmallReadBytes = 512;
constexpr std::size_t kLargeReadBytes = 64 * 1024;
// Pieces of one write: more than the requests of one small read have answers.
constexpr std::size_t kWrittenPieces = 32;
// What an empty queue may keep of its memory.
constexpr std::size_t kKeptPieces = 4;

std::size_t piece_bytes(const PeerSocket::Piece& piece) {
  return piece.first.size() + (piece.second ? piece.second->size() : 0);
}

}  // namespace

PeerSocket::PeerSocket(asio::ip::tcp::socket accepted, PeerId number)
    : socket(std::move(accepted)), id(number), buffer_(kSmallReadBytes) {}

bool PeerSocket::push(Piece piece) {
  const std::size_t bytes = piece_bytes(piece);
  if (queued_bytes_ + bytes > kMaxQueuedBytes) return false;
  queued_bytes_ += bytes;
  queue_.push_back(std::move(piece));
  return true;
}

boost::system::error_code PeerSocket::write_now() {
  const auto error = send_queued();
  wake_reader();
  return error;
}

boost::system::error_code PeerSocket::send_queued() {
  while (queued_bytes_ > 0) {
    std::array<iovec, 2 * kWrittenPieces> parts;
    std::size_t count = 0;
    std::size_t skipped = first_sent_;
    const auto add = [&](const Bytes& bytes) {
      const std::size_t from = std::min(skipped, bytes.size());
      skipped -= from;
      // sendmsg writes to none of them.
      if (from < bytes.size()) parts[count++] = {const_cast<std::byte*>(bytes.data()) + from, bytes.size() - from};
    };
    for (std::size_t index = first_; index < std::min(queue_.size(), first_ + kWrittenPieces); ++index) {
      add(queue_[index].first);
      if (queue_[index].second) add(*queue_[index].second);
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(socket.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return asio::error::would_block;
    if (sent < 0) return {errno, boost::system::system_category()};
    wrote(static_cast<std::size_t>(sent));
  }
  return {};
}

asio::awaitable<boost::system::error_code> PeerSocket::write_rest() {
  boost::system::error_code error = asio::error::would_block;
  while (!closed && error == asio::error::would_block) {
    auto [failed] = co_await socket.async_wait(asio::ip::tcp::socket::wait_write, await_tuple);
    if (closed) break;
    error = failed ? failed : write_now();
  }
  writing = false;
  co_return error;
}

void PeerSocket::wrote(std::size_t count) {
  queued_bytes_ -= count;
  count += first_sent_;
  while (first_ < queue_.size() && count >= piece_bytes(queue_[first_])) {
    count -= piece_bytes(queue_[first_]);
    queue_[first_++] = {};
  }
  first_sent_ = count;
  if (first_ == queue_.size()) {
    first_ = 0;
    queue_.clear();
    if (queue_.capacity() > kKeptPieces) queue_ = {};
  } else if (first_ > kWrittenPieces && first_ > queue_.size() / 2) {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(std::exchange(first_, 0)));
  }
}

void PeerSocket::wake_reader() {
  if (waiting_reader_ && !is_behind()) waiting_reader_->cancel();
}

asio::awaitable<void> PeerSocket::caught_up() {
  while (!closed && is_behind()) {
    waiting_reader_ =
        std::make_unique<asio::steady_timer>(socket.get_executor(), asio::steady_timer::time_point::max());
    co_await waiting_reader_->async_wait(await_tuple);
    waiting_reader_.reset();
  }
}

void PeerSocket::fit_buffer(std::size_t count) {
  if (count == buffer_.size() && count < kLargeReadBytes)
    buffer_.resize(kLargeReadBytes);
  else if (count <= kSmallReadBytes && buffer_.size() > kSmallReadBytes)
    buffer_ = Bytes(kSmallReadBytes);
}

void PeerSocket::shut() {
  closed = true;
  boost::system::error_code ignored;  // the peer may be gone already
  socket.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket.close(ignored);
  if (waiting_reader_) waiting_reader_->cancel();
}

}  // namespace llmlaunch::rendezvous
