// The two coroutines of one host: a reader that turns bytes into messages, a writer that empties the queue.
#include "launcher/host_session.hpp"

#include <utility>

namespace llmlaunch::launcher {

HostSession::HostSession(asio::any_io_executor executor, std::shared_ptr<RemoteShell> shell, std::size_t read_bytes,
                         EventFunction on_event)
    : executor_(std::move(executor)),
      shell_(std::move(shell)),
      on_event_(std::move(on_event)),
      decoder_(agent::kMaxAgentFrameBytes),
      buffer_(read_bytes),
      filled_(executor_) {}

void HostSession::start() {
  spawn_or_die(executor_, "host session", read_all(shared_from_this()));
}

void HostSession::send(const agent::HeadMessage& message) {
  if (closed_) return;
  const Bytes frame = agent::encode(message);
  queue_.insert(queue_.end(), frame.begin(), frame.end());
  filled_.cancel();
}

void HostSession::push(std::uint32_t index, std::shared_ptr<const PushedFile> file) {
  if (closed_) return;
  pushes_.push_back({index, std::move(file), 0});
  filled_.cancel();
}

void HostSession::close() {
  if (std::exchange(closed_, true)) return;
  shell_->close();
  filled_.cancel();
}

void HostSession::tell(SessionEvent event) {
  if (!closed_) on_event_(std::move(event));
}

asio::awaitable<void> HostSession::read_all(std::shared_ptr<HostSession> self) {
  const Result<void> opened = co_await self->shell_->open();
  if (self->closed_) co_return;
  if (!opened) {
    self->tell(OpenFailed{opened.error(), self->shell_->step()});
    co_return;
  }
  spawn_or_die(self->executor_, "host writer", write_all(self));
  self->tell(Opened{});
  while (!self->closed_) {
    const Result<std::size_t> got = co_await self->shell_->read_some(self->buffer_);
    if (!got || *got == 0) {
      self->tell(Lost{got ? make_error(Errc::closed, "the connection to its agent ended") : got.error()});
      co_return;
    }
    if (!self->deliver(ByteView(self->buffer_).first(*got))) co_return;
  }
}

// False when the stream carried what is no message: there is no next frame to find.
bool HostSession::deliver(ByteView bytes) {
  tell(Heard{});
  decoder_.feed(bytes);
  while (!closed_) {
    const auto frame = decoder_.next();
    if (!frame) {
      tell(Lost{frame.error()});
      return false;
    }
    if (!*frame) return true;
    Result<agent::AgentMessage> message = agent::decode_agent_message(**frame);
    if (!message) {
      tell(Lost{message.error()});
      return false;
    }
    tell(std::move(*message));
  }
  return true;
}

// What goes out next: all messages that wait, else one piece of a file, else nothing.
Result<Bytes> HostSession::next_frames() {
  if (!queue_.empty()) return std::exchange(queue_, {});
  if (pushes_.empty()) return Bytes{};
  Push& push = pushes_.front();
  Result<agent::FileChunk> chunk = push.file->read(push.index, push.offset);
  if (!chunk) return chunk.error();
  push.offset += chunk->data.size();
  if (chunk->last) pushes_.pop_front();
  return agent::encode(agent::HeadMessage(std::move(*chunk)));
}

asio::awaitable<void> HostSession::write_all(std::shared_ptr<HostSession> self) {
  while (!self->closed_) {
    const bool is_file = self->queue_.empty();
    const Result<Bytes> frames = self->next_frames();
    if (!frames) {
      self->tell(Lost{frames.error()});
      co_return;
    }
    if (frames->empty()) {
      self->filled_.expires_at(std::chrono::steady_clock::time_point::max());
      co_await self->filled_.async_wait(await_tuple);
      continue;
    }
    const Result<void> written = co_await self->shell_->write(*frames);
    // The reader is about to see the end of this stream, and before it what the agent had to say about it.
    if (!written) co_return;
    if (is_file) self->tell(Pushed{});
  }
}

}  // namespace llmlaunch::launcher
