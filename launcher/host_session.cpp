// The two coroutines of one host: a reader that turns bytes into messages, a writer that empties the queue.
#include "launcher/host_session.hpp"

#include <utility>

namespace llmlaunch::launcher {
namespace {

// For an agent to end after a Bye. Without it the agent would wait for its head_timeout, and the host would be busy.
constexpr std::chrono::milliseconds kPartingTime{2'000};

}  // namespace

HostSession::HostSession(asio::any_io_executor executor, std::shared_ptr<RemoteShell> shell, std::size_t read_bytes,
                         EventFunction on_event)
    : executor_(std::move(executor)),
      shell_(std::move(shell)),
      on_event_(std::move(on_event)),
      decoder_(agent::kMaxAgentFrameBytes),
      read_bytes_(read_bytes),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(read_bytes)),
      filled_(executor_) {}

void HostSession::start() {
  spawn_or_die(executor_, "host session", read_all(shared_from_this(), shell_));
}

void HostSession::reopen(std::shared_ptr<RemoteShell> shell, agent::Resume how) {
  if (closed_) return;
  shell_->close();
  shell_ = std::move(shell);
  decoder_ = FrameDecoder(agent::kMaxAgentFrameBytes);
  queue_.clear();
  pushes_.clear();
  rejoining_ = std::move(how);
  filled_.cancel();
  start();
}

void HostSession::send(const agent::HeadMessage& message) {
  if (closed_) return;
  agent::HeadMessage sent = message;
  if (auto* ack = std::get_if<agent::Ack>(&sent)) {
    heard_.output_bytes = ack->output_bytes;
    *ack = heard_;
  }
  leaving_ = leaving_ || std::holds_alternative<agent::Bye>(sent);
  const Bytes frame = agent::encode(sent);
  if (agent::is_order(sent)) orders_.push_back(frame);
  if (!rejoining_) enqueue(frame);
}

void HostSession::enqueue(const Bytes& frame) {
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
  parting_ = leaving_ && !rejoining_ && !queue_.empty();
  if (parting_)
    parting_limit_.emplace(executor_, kPartingTime, [shell = shell_] { shell->close(); });
  else
    shell_->close();
  filled_.cancel();
}

void HostSession::tell(SessionEvent event) {
  if (!closed_) on_event_(std::move(event));
}

// The end of a connection that is being made again is one more failed attempt.
void HostSession::lose(Error error) {
  if (rejoining_)
    tell(OpenFailed{std::move(error), shell_->step()});
  else
    tell(Lost{std::move(error)});
}

// --- reading -------------------------------------------------------------------------------------------------------

asio::awaitable<void> HostSession::read_all(std::shared_ptr<HostSession> self, ShellPointer shell) {
  const Result<void> opened = co_await shell->open();
  if (self->is_over(shell)) co_return;
  if (!opened) {
    self->tell(OpenFailed{opened.error(), shell->step()});
    co_return;
  }
  spawn_or_die(self->executor_, "host writer", write_all(self, shell));
  if (!self->rejoining_) self->tell(Opened{});
  while (!self->is_over(shell)) {
    const Result<std::size_t> got = co_await shell->read_some({self->buffer_.get(), self->read_bytes_});
    if (self->is_over(shell)) break;
    if (!got || *got == 0) {
      self->lose(got ? make_error(Errc::closed, "the connection to its agent ended") : got.error());
      co_return;
    }
    if (!self->deliver(ByteView(self->buffer_.get(), *got))) co_return;
  }
  // A socket that is closed with bytes unread takes back what it had sent: the Bye. So the agent ends first.
  while (self->parting_ && self->shell_ == shell) {
    const Result<std::size_t> got = co_await shell->read_some({self->buffer_.get(), self->read_bytes_});
    if (got && *got > 0) continue;
    self->parting_limit_.reset();
    shell->close();
    break;
  }
}

// False when the stream carried what is no message: there is no next frame to find.
bool HostSession::deliver(ByteView bytes) {
  tell(Heard{});
  decoder_.feed(bytes);
  const ShellPointer shell = shell_;
  while (!is_over(shell)) {
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
    if (!take(std::move(*message))) return false;
  }
  return true;
}

bool HostSession::take(agent::AgentMessage message) {
  if (rejoining_) return take_answer(message);
  const agent::Counted kind = agent::counted(message);
  heard_.outputs += kind == agent::Counted::output ? 1 : 0;
  heard_.events += kind == agent::Counted::event ? 1 : 0;
  heard_.carried += kind == agent::Counted::carried ? 1 : 0;
  if (const auto* taken = std::get_if<agent::Taken>(&message))
    forget_orders(taken->orders);
  else
    tell(std::move(message));
  return true;
}

// Hello is the second agent's, who takes the Resume; Resumed is the first one's.
bool HostSession::take_answer(const agent::AgentMessage& message) {
  if (std::holds_alternative<agent::Hello>(message)) {
    rejoining_->state = heard_;
    enqueue(agent::encode(agent::HeadMessage(*rejoining_)));
    return true;
  }
  if (const auto* resumed = std::get_if<agent::Resumed>(&message)) {
    forget_orders(resumed->orders);
    rejoining_.reset();
    for (const Bytes& order : orders_) enqueue(order);
    tell(Rejoined{});
    return true;
  }
  if (std::holds_alternative<agent::Ping>(message)) return true;
  const auto* failed = std::get_if<agent::Failed>(&message);
  if (failed != nullptr && static_cast<Errc>(failed->code) == Errc::timed_out) {  // it stands still, and may go on
    tell(OpenFailed{make_error(Errc::timed_out, failed->what, {}, failed->hint), OpenStep::open});
    return false;
  }
  tell(NotRejoined{failed ? make_error(static_cast<Errc>(failed->code), failed->what, {}, failed->hint)
                          : make_error(Errc::protocol, "its agent did not say whether it goes on")});
  return false;
}

void HostSession::forget_orders(std::uint64_t taken) {
  for (; first_order_ < taken && !orders_.empty(); ++first_order_) orders_.pop_front();
}

// --- writing -------------------------------------------------------------------------------------------------------

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

asio::awaitable<void> HostSession::write_all(std::shared_ptr<HostSession> self, ShellPointer shell) {
  while (self->shell_ == shell && (!self->closed_ || (self->parting_ && !self->queue_.empty()))) {
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
    const Result<void> written = co_await shell->write(*frames);
    // The reader is about to see the end of this stream, and before it what the agent had to say about it.
    if (!written) break;
    if (is_file && !self->is_over(shell)) self->tell(Pushed{});
  }
  if (self->closed_ && !self->parting_) shell->close();
}

}  // namespace llmlaunch::launcher
