// One coroutine: wait until bytes are wanted, wait until there are some, read, hand over.
#include "launcher/input_reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace llmlaunch::launcher {
namespace {

constexpr std::size_t kMaxInputReadBytes = 64u << 10;

enum class Kind { waitable, socket, terminal, plain };  // plain: files and devices that a poll says nothing about

Kind kind_of(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Kind::plain;  // closed: the first read says so
  if (S_ISSOCK(info.st_mode)) return Kind::socket;
  if (S_ISFIFO(info.st_mode)) return Kind::waitable;
  return ::isatty(fd) == 1 ? Kind::terminal : Kind::plain;
}

/// A description of our own, so that O_NONBLOCK is nobody else's; -1: there is none to be had, as for a socket.
int reopened(int fd) {
  return ::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

}  // namespace

struct InputReader::State {
  State(const asio::any_io_executor& on, int from, DataFunction to)
      : executor(on), fd(from), kind(kind_of(from)), on_data(std::move(to)), wake(on), stream(on) {}

  bool in_background() const { return kind == Kind::terminal && ::tcgetpgrp(fd) != ::getpgrp(); }
  Result<Bytes> read() const;

  asio::any_io_executor executor;
  int fd;
  Kind kind;
  DataFunction on_data;
  asio::steady_timer wake;  // cancelled when something has changed
  asio::posix::stream_descriptor stream;
  std::size_t wanted = 0;
  bool closed = false;
};

// Errc::canceled: nothing is there after all.
Result<Bytes> InputReader::State::read() const {
  Bytes data(std::min(wanted, kMaxInputReadBytes));
  const int from = stream.is_open() ? const_cast<asio::posix::stream_descriptor&>(stream).native_handle() : fd;
  ssize_t got = 0;
  do {
    got = kind == Kind::socket ? ::recv(from, data.data(), data.size(), MSG_DONTWAIT)
                               : ::read(from, data.data(), data.size());
  } while (got < 0 && errno == EINTR);
  const bool later = got < 0 && (errno == EAGAIN || (errno == EIO && in_background()));
  if (later) return make_error(Errc::canceled, "nothing to read");
  data.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  return data;
}

InputReader::InputReader(const asio::any_io_executor& executor, int fd, DataFunction on_data)
    : state_(std::make_shared<State>(executor, fd, std::move(on_data))) {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGTTIN, &ignore, &ttin_before_);
  if (state_->kind != Kind::plain) {
    int own = state_->kind == Kind::socket ? -1 : reopened(fd);
    if (own < 0) own = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    boost::system::error_code failed;
    if (own >= 0) state_->stream.assign(own, failed);
  }
  spawn_or_die(executor, "stdin", read_all(state_));
}

InputReader::~InputReader() {
  close();
  ::sigaction(SIGTTIN, &ttin_before_, nullptr);
}

void InputReader::want(std::size_t bytes) {
  const bool news = bytes > 0 && state_->wanted == 0;
  state_->wanted = bytes;
  if (news) state_->wake.cancel();
}

void InputReader::retry() {
  if (state_->kind == Kind::terminal) state_->wake.cancel();
}

void InputReader::close() {
  state_->closed = true;
  state_->wake.cancel();
  boost::system::error_code none;
  state_->stream.close(none);
}

asio::awaitable<void> InputReader::read_all(std::shared_ptr<State> state) {
  while (!state->closed) {
    if (state->wanted == 0 || state->in_background()) {
      state->wake.expires_at(std::chrono::steady_clock::time_point::max());
      co_await state->wake.async_wait(await_tuple);
      continue;
    }
    if (state->stream.is_open()) {
      const auto [error] = co_await state->stream.async_wait(asio::posix::stream_descriptor::wait_read, await_tuple);
      if (state->closed) co_return;
      if (error) co_return state->on_data({});  // nothing will ever be readable
      if (state->wanted == 0 || state->in_background()) continue;
    } else {
      co_await asio::post(state->executor, await_tuple);  // a file: others have their turn between two pieces
      if (state->closed) co_return;
    }
    Result<Bytes> data = state->read();
    if (!data) continue;
    const bool ended = data->empty();
    state->on_data(std::move(*data));
    if (ended) co_return;
  }
}

}  // namespace llmlaunch::launcher
