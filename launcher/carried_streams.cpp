// Two coroutines for each connection, and the windows between them and the host; see carried_streams.hpp.
#include "launcher/carried_streams.hpp"

#include <array>
#include <utility>

#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::launcher {
namespace {

using asio::ip::tcp;

// What an agent keeps for us until it is told that it came.
constexpr std::size_t kFramesUnconfirmed = 64;
constexpr std::size_t kBytesUnconfirmed = 32u << 10;

}  // namespace

struct CarriedStreams::Stream {
  Stream(const asio::any_io_executor& executor, std::uint32_t number)
      : id(number), socket(executor), filled(executor), credited(executor) {
    filled.expires_at(std::chrono::steady_clock::time_point::max());
    credited.expires_at(std::chrono::steady_clock::time_point::max());
  }

  std::uint32_t id;
  tcp::socket socket;
  asio::steady_timer filled;    // cancelled when there is something for the server, or no more
  asio::steady_timer credited;  // cancelled when there is credit, or no more need of it
  Bytes queue;                  // for the server
  std::size_t writing = 0;      // of what was taken out of it
  std::size_t untold = 0;       // written, and no credit given for it
  std::size_t credit = agent::kCarriedWindowBytes;
  bool host_ended = false;
  bool server_ended = false;
  bool shut = false;  // the server was told that the host has ended
  bool over = false;
};

CarriedStreams::CarriedStreams(asio::any_io_executor executor, std::uint16_t port, std::size_t most, SendFunction send,
                               ConfirmFunction confirm)
    : executor_(std::move(executor)), port_(port), most_(most), send_(std::move(send)), confirm_(std::move(confirm)) {}

CarriedStreams::StreamPointer CarriedStreams::find(std::uint32_t id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second;
}

void CarriedStreams::tell(agent::HeadMessage message) {
  if (!closed_) send_(std::move(message));
}

void CarriedStreams::confirm_later(std::size_t bytes) {
  bytes_unconfirmed_ += bytes;
  if (++frames_unconfirmed_ < kFramesUnconfirmed && bytes_unconfirmed_ < kBytesUnconfirmed) return;
  frames_unconfirmed_ = bytes_unconfirmed_ = 0;
  confirm_();
}

Result<void> CarriedStreams::take(agent::AgentMessage message) {
  const auto broken = [](const char* what) {
    return make_error(Errc::protocol, std::string("its agent sent ") + what);
  };
  if (closed_) return ok;
  if (const auto* open = std::get_if<agent::CarriedOpen>(&message)) {
    if (open->id != next_id_) return broken("a carried connection out of turn");
    if (streams_.size() >= most_) return broken("more carried connections than its ranks may have");
    ++next_id_;
    const auto stream = std::make_shared<Stream>(executor_, open->id);
    streams_.emplace(open->id, stream);
    confirm_later(0);
    spawn_or_die(executor_, "carried connection", connect(shared_from_this(), stream));
  } else if (const auto* data = std::get_if<agent::CarriedData>(&message)) {
    if (data->id >= next_id_) return broken("bytes of a connection that never was");
    confirm_later(data->data.size());
    const StreamPointer stream = find(data->id);
    if (!stream) return ok;  // it was over before the host heard of that
    if (stream->host_ended) return broken("bytes of a connection behind its end");
    const std::size_t held = stream->queue.size() + stream->writing + stream->untold;
    if (held + data->data.size() > agent::kCarriedWindowBytes)
      return broken("more bytes than a connection's window holds");
    stream->queue.insert(stream->queue.end(), data->data.begin(), data->data.end());
    stream->filled.cancel();
  } else if (const auto* end = std::get_if<agent::CarriedEnd>(&message)) {
    if (end->id >= next_id_) return broken("the end of a connection that never was");
    confirm_later(0);
    if (const StreamPointer stream = find(end->id)) {
      stream->host_ended = true;
      stream->filled.cancel();
    }
  } else if (const auto* taken = std::get_if<agent::CarriedTaken>(&message)) {
    if (taken->id >= next_id_) return broken("credit for a connection that never was");
    confirm_later(0);
    const StreamPointer stream = find(taken->id);
    if (!stream) return ok;
    if (taken->bytes > agent::kCarriedWindowBytes - stream->credit)
      return broken("credit for bytes that were never sent");
    stream->credit += taken->bytes;
    stream->credited.cancel();
  } else if (const auto* gone = std::get_if<agent::CarriedReset>(&message)) {
    if (gone->id >= next_id_) return broken("the reset of a connection that never was");
    confirm_later(0);
    if (const StreamPointer stream = find(gone->id)) reset(stream, false);
  }
  return ok;
}

void CarriedStreams::close() {
  if (std::exchange(closed_, true)) return;
  for (const auto& [id, stream] : streams_) {
    stream->host_ended = true;
    stream->filled.cancel();
    stream->credited.cancel();
  }
}

void CarriedStreams::reset(const StreamPointer& stream, bool tell_host) {
  if (std::exchange(stream->over, true)) return;
  boost::system::error_code ignored;  // it may not have been open
  stream->socket.close(ignored);
  stream->filled.cancel();
  stream->credited.cancel();
  streams_.erase(stream->id);
  if (tell_host) tell(agent::CarriedReset{stream->id});
}

void CarriedStreams::forget_if_over(const StreamPointer& stream) {
  if (stream->shut && stream->server_ended) reset(stream, false);
}

asio::awaitable<void> CarriedStreams::connect(Self self, StreamPointer stream) {
  const tcp::endpoint server(asio::ip::address_v4::loopback(), self->port_);
  const auto [error] = co_await stream->socket.async_connect(server, await_tuple);
  if (stream->over) co_return;
  if (error) {
    self->reset(stream, true);
    co_return;
  }
  tune_connection(stream->socket.native_handle());
  boost::system::error_code ignored;  // a socket that was just connected takes a flag
  stream->socket.non_blocking(true, ignored);
  spawn_or_die(self->executor_, "carried to the rendezvous", to_server(self, stream));
  spawn_or_die(self->executor_, "carried to a host", to_host(self, stream));
}

asio::awaitable<void> CarriedStreams::to_server(Self self, StreamPointer stream) {
  while (!stream->over) {
    if (stream->queue.empty()) {
      if (stream->host_ended) break;
      co_await stream->filled.async_wait(await_tuple);
      continue;
    }
    const Bytes bytes = std::exchange(stream->queue, {});
    stream->writing = bytes.size();
    const auto [error, written] = co_await asio::async_write(stream->socket, asio::buffer(bytes), await_tuple);
    if (stream->over) co_return;
    if (error) {
      self->reset(stream, true);
      co_return;
    }
    stream->writing = 0;
    stream->untold += written;
    if (stream->untold < agent::kCarriedCreditBytes) continue;
    self->tell(agent::CarriedTaken{stream->id, static_cast<std::uint32_t>(std::exchange(stream->untold, 0))});
  }
  if (stream->over) co_return;
  stream->shut = true;
  boost::system::error_code ignored;  // who is gone hears nothing
  stream->socket.shutdown(tcp::socket::shutdown_send, ignored);
  self->forget_if_over(stream);
}

asio::awaitable<void> CarriedStreams::to_host(Self self, StreamPointer stream) {
  while (!stream->over) {
    // Of a host that is gone the end is waited for, and nobody has to take what comes before.
    if (stream->credit == 0 && !self->closed_) {
      co_await stream->credited.async_wait(await_tuple);
      continue;
    }
    // A connection that waits holds no buffer.
    co_await stream->socket.async_wait(tcp::socket::wait_read, await_tuple);
    if (stream->over) co_return;
    std::array<std::byte, agent::kCarriedChunkBytes>& buffer = self->buffer_;
    const std::size_t most = self->closed_ ? buffer.size() : std::min(buffer.size(), stream->credit);
    boost::system::error_code error;
    const std::size_t got = stream->socket.read_some(asio::buffer(buffer.data(), most), error);
    if (error == asio::error::would_block) continue;
    if (error == asio::error::eof) break;
    if (error) {
      self->reset(stream, true);
      co_return;
    }
    if (self->closed_) continue;
    stream->credit -= got;
    self->tell(
        agent::CarriedData{stream->id, Bytes(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got))});
  }
  if (stream->over) co_return;
  stream->server_ended = true;
  self->tell(agent::CarriedEnd{stream->id});
  self->forget_if_over(stream);
}

}  // namespace llmlaunch::launcher
