// The part of `Session` that runs a command and moves its bytes. How a session comes about is session.cpp's and
// session_sign_in.cpp's.
#include <array>
#include <utility>

#include "launcher/ssh/session.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// Of a host whose stderr never ends, the loop takes 64 KiB before it looks at other hosts.
constexpr int kStderrPieces = 16;
// Of stderr, on its way from a worker to the loop: a loop that is busy slows the host down.
constexpr std::size_t kMaxUnheardBytes = 64u << 10;

}  // namespace

asio::awaitable<Result<void>> Session::exec(const std::string& command) {
  return there(do_exec(command));
}

asio::awaitable<Result<void>> Session::do_exec(const std::string& command) {
  channel_ = ssh_channel_new(session_.get());
  if (channel_ == nullptr) co_return make_error(Errc::out_of_resources, "no memory for an ssh channel");
  const int opened = co_await repeat([this] { return ssh_channel_open_session(channel_); });
  if (opened != SSH_OK || closed_) co_return failure("opening a session channel");
  const int started = co_await repeat([this, &command] { return ssh_channel_request_exec(channel_, command.c_str()); });
  if (started != SSH_OK || closed_) co_return failure("starting a command");
  spawn_or_die(stream_.get_executor(), "ssh session", pump(shared_from_this()));
  co_return ok;
}

// One coroutine moves all bytes of the session; reader and writer only leave what they want and wait.
asio::awaitable<void> Session::pump(std::shared_ptr<Session> self) {
  while (!self->is_over()) {
    self->before_call();
    self->move_bytes();
    self->after_call();
    if (!self->is_over()) co_await self->wait();
  }
  self->reader_signal_.cancel();
  self->writer_signal_.cancel();
  self->carried_ = nullptr;
  if (const auto ended = std::exchange(self->carrying_ended_, nullptr)) ended(self->failure("the transfer"));
}

void Session::carry(std::function<void()> move, std::function<void(const Error&)> ended) {
  carried_ = std::move(move);
  carrying_ended_ = std::move(ended);
  spawn_or_die(stream_.get_executor(), "ssh session", pump(shared_from_this()));
}

bool Session::is_over() const {
  return closed_ || gone_ || broken_;
}

void Session::move_bytes() {
  if (carried_) {
    carried_();
    gone_ = gone_ || ssh_is_connected(session_.get()) == 0;
    return;
  }
  take_stderr();
  take_stdout();
  give_stdin();
  // Sending reads as well: what came in meanwhile is in the channel's buffers, and no event will tell.
  take_stdout();
  gone_ = gone_ || ssh_is_connected(session_.get()) == 0 || ssh_channel_is_closed(channel_) != 0;
  if (gone_) take_stderr();
}

void Session::take_stderr() {
  std::array<char, 4096> piece;
  for (int turns = 0; turns < kStderrPieces && (unheard_ < kMaxUnheardBytes || gone_); ++turns) {
    const int got = ssh_channel_read_nonblocking(channel_, piece.data(), piece.size(), 1);
    if (got <= 0) return;  // an error is stdout's to tell
    tell_stderr(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
  if (unheard_ < kMaxUnheardBytes) wake();  // there may be more, after the others had their turn
}

void Session::tell_stderr(std::string_view text) {
  if (!stderr_sink_) return;
  if (!worker_) return stderr_sink_(text);
  unheard_ += text.size();
  asio::post(home_, [self = shared_from_this(), said = std::string(text)] {
    self->stderr_sink_(said);
    asio::post(*self->worker_, [self, size = said.size()] {
      self->unheard_ -= size;
      self->wake();
    });
  });
}

// Only as much as the reader has room for: what is not read closes the channel's window, and so slows the host down.
void Session::take_stdout() {
  while (reading_ && read_ < reading_->size() && !stdout_ended_ && !broken_) {
    const auto room = reading_->subspan(read_);
    const int got = ssh_channel_read_nonblocking(channel_, room.data(), static_cast<std::uint32_t>(room.size()), 0);
    if (got > 0)
      read_ += static_cast<std::size_t>(got);
    else if (got == SSH_EOF || (got == 0 && ssh_channel_is_eof(channel_) != 0))
      stdout_ended_ = true;
    else if (got < 0)
      broken_ = failure("the transfer");
    else if (gone_)
      broken_ = make_error(Errc::closed, "sshd closed the connection");
    else
      break;
  }
  if (reading_ && (read_ > 0 || stdout_ended_ || broken_)) reader_signal_.cancel();
}

void Session::give_stdin() {
  while (!writing_.empty() && !broken_) {
    const int put = ssh_channel_write(channel_, writing_.data(), static_cast<std::uint32_t>(writing_.size()));
    if (put == 0 || put == SSH_AGAIN) return;
    if (put > 0) {
      writing_ = writing_.subspan(static_cast<std::size_t>(put));
    } else {
      // The command or the connection is gone. The reader gets what came before, and then the reason.
      gone_ = true;
      return;
    }
  }
  writer_signal_.cancel();
}

asio::awaitable<Result<std::size_t>> Session::read_some(std::span<std::byte> buffer) {
  return there(do_read_some(buffer));
}

asio::awaitable<Result<std::size_t>> Session::do_read_some(std::span<std::byte> buffer) {
  read_ = 0;
  reading_ = buffer;
  if (is_over() && !closed_) take_stdout();
  wake();
  while (read_ == 0 && !stdout_ended_ && !broken_ && !closed_) {
    reader_signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await reader_signal_.async_wait(await_tuple);
  }
  reading_.reset();
  if (read_ > 0) co_return read_;
  if (closed_) co_return make_error(Errc::canceled, "the connection was closed");
  if (broken_) co_return *broken_;
  co_return std::size_t{0};
}

asio::awaitable<Result<void>> Session::write(ByteView bytes) {
  return there(do_write(bytes));
}

asio::awaitable<Result<void>> Session::do_write(ByteView bytes) {
  writing_ = bytes;
  wake();
  while (!writing_.empty() && !is_over()) {
    writer_signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await writer_signal_.async_wait(await_tuple);
  }
  const bool all = std::exchange(writing_, {}).empty();
  if (closed_) co_return make_error(Errc::canceled, "the connection was closed");
  if (broken_) co_return *broken_;
  if (!all) co_return make_error(Errc::closed, "the command on the host has ended");
  co_return ok;
}

}  // namespace llmlaunch::launcher::ssh
