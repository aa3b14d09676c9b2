// Moves bytes between the channels of a session and sockets of this machine; see forwards.hpp. Who connects where is
// jump_host.cpp's.
//
// libssh's callbacks only mark a channel: what came is read when the pump gets to it. Without them every packet would
// cost a look at every channel, each of them a system call.
#include "launcher/ssh/forwards.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

namespace llmlaunch::launcher::ssh {
namespace {

// As much as one ssh packet may have.
constexpr std::size_t kPieceBytes = 32u << 10;
// Packets of 4 KiB that are taken off the socket before others have their turn.
constexpr int kPacketsPerTurn = 64;
// Pieces of one connection before others have their turn.
constexpr int kPiecesPerTurn = 4;
// libssh's first channel has this number.
constexpr int kFirstChannel = 43;
// How libssh tells why a channel was not opened: "Channel opening failure: channel 43 error (2) Connection refused".
constexpr std::string_view kOpenFailure = "Channel opening failure: channel ";

// RFC 4254, 5.1.
constexpr int kProhibited = 1;
constexpr int kUnknownType = 3;

struct Reason {
  int channel = 0;
  int code = 0;
  std::string text;
};

Reason reason_in(std::string_view said) {
  Reason reason;
  if (!said.starts_with(kOpenFailure)) return reason;
  said.remove_prefix(kOpenFailure.size());
  std::from_chars(said.data(), said.data() + said.size(), reason.channel);
  const std::size_t open = said.find('('), close = said.find(") ");
  if (open == said.npos || close == said.npos) return reason;
  std::from_chars(said.data() + open + 1, said.data() + close, reason.code);
  reason.text = said.substr(close + 2);
  return reason;
}

}  // namespace

struct Forwards::Forward : std::enable_shared_from_this<Forward> {
  Forward(asio::posix::stream_descriptor end, TcpTarget to)
      : inside(std::move(end)),
        signal(inside.get_executor(), std::chrono::steady_clock::time_point::max()),
        target(std::move(to)) {}

  asio::posix::stream_descriptor inside;  // our side of the socket pair
  asio::steady_timer signal;              // `opened` is there
  TcpTarget target;
  bool alone = false;  // to be asked for while no other is, so that the reason that libssh tells is this one's
  int number = 0;      // of the channel, libssh's
  ssh_channel channel = nullptr;
  ssh_channel_callbacks_struct callbacks{};
  std::optional<Result<void>> opened;
  bool news = false;  // the channel has bytes, or has ended
  bool read_armed = false, write_armed = false;
  bool leaving = false;      // our end is closed, and all that came from it was sent
  bool peer_closed = false;  // and the jump host has passed it on
  bool over = false;
  Bytes up, down;  // taken from the socket, and from the channel, and not yet passed on

  static int on_data(ssh_session, ssh_channel, void*, std::uint32_t, int, void* self) {
    static_cast<Forward*>(self)->news = true;
    return 0;  // it stays where it is
  }
  static void on_eof(ssh_session, ssh_channel, void* self) { static_cast<Forward*>(self)->news = true; }
  static void on_close(ssh_session, ssh_channel, void* self) {
    static_cast<Forward*>(self)->news = static_cast<Forward*>(self)->peer_closed = true;
  }
  bool is_asked_for() const { return channel != nullptr && !opened; }
  void watch() {
    callbacks.userdata = this;
    callbacks.channel_data_function = on_data;
    callbacks.channel_eof_function = on_eof;
    callbacks.channel_close_function = on_close;
    ssh_callbacks_init(&callbacks);
    ssh_set_channel_callbacks(channel, &callbacks);
  }
};

Forwards::Forwards(std::shared_ptr<Session> session, std::string name, std::function<void()> on_end)
    : session_(std::move(session)), name_(std::move(name)), on_end_(std::move(on_end)) {}

Forwards::~Forwards() {
  on_end_ = nullptr;
  close();
  for (const auto& one : forwards_) drop(*one);
}

Result<void> Forwards::start() {
  // Polling a channel is the one way to have libssh read the socket; this one is there when no other is.
  listener_ = ssh_channel_new(session_->handle());
  if (listener_ == nullptr) return make_error(Errc::out_of_resources, "no memory for an ssh channel");
  const auto weak = weak_from_this();
  session_->carry(
      [weak] {
        if (const auto self = weak.lock()) self->move();
      },
      [weak](const Error& reason) {
        if (const auto self = weak.lock()) self->end(reason);
      });
  return ok;
}

Error Forwards::jump_failed(std::string what, std::string hint) const {
  return make_error(Errc::unreachable, std::move(what), "jump host " + name_, std::move(hint));
}

// Said by the jump host's sshd; numbers as in RFC 4254.
Error Forwards::refused(const Forward& one, int code, const std::string& text) const {
  const std::string why = text.empty() || text == "open failed" ? "" : ": " + text;
  if (code == kProhibited || code == kUnknownType)
    return jump_failed("its sshd makes no connections for others" + why,
                       "AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config decide that");
  return make_error(
      Errc::unreachable,
      fmt::format("jump host {} has no connection to {}:{}{}", name_, one.target.host, one.target.port, why), {},
      fmt::format("it is {} that looks the name up and connects: check 'address' and 'port' from there", name_));
}

asio::awaitable<Result<ForwardEnd>> Forwards::open(TcpTarget target) {
  const auto self = shared_from_this();
  if (ended()) co_return **ended_;
  auto pair = make_socket_pair(session_->executor());
  if (!pair) co_return pair.error();
  asio::posix::stream_descriptor outside(session_->executor(), pair->theirs);
  const auto one = std::make_shared<Forward>(std::move(pair->ours), target);
  forwards_.push_back(one);
  session_->wake();
  const Deadline deadline(session_->executor(), target.timeout, [one] {
    if (!one->opened) one->opened = make_error(Errc::timed_out, "");
    one->signal.cancel();
  });
  while (!one->opened) co_await one->signal.async_wait(await_tuple);
  if (*one->opened) co_return ForwardEnd{std::move(outside), ended_};
  drop(*one);
  std::erase(forwards_, one);
  if (on_end_) on_end_();
  if (one->opened->error().code != Errc::timed_out) co_return one->opened->error();
  co_return make_error(Errc::timed_out,
                       fmt::format("jump host {} had no connection to {}:{} within {:g} s", name_, target.host,
                                   target.port, static_cast<double>(target.timeout.count()) / 1000),
                       {}, "the host is down, or a firewall behind the jump host drops what is sent to this port");
}

// --- the pump's work -------------------------------------------------------------------------------------------------

void Forwards::move() {
  take_packets();
  const auto all = forwards_;
  for (const auto& one : all) advance(*one);
  std::erase_if(forwards_, [](const auto& one) { return one->over; });
  if (forwards_.empty() && on_end_) on_end_();
}

void Forwards::take_packets() {
  for (int turns = 0; turns < kPacketsPerTurn; ++turns) {
    // Of the stderr that it has none of: only then libssh always looks at the socket.
    if (ssh_channel_poll(listener_, 1) == SSH_ERROR) return;  // the pump sees for itself that the session is over
    if (!session_->has_unread()) return;
  }
  session_->wake();
}

void Forwards::advance(Forward& one) {
  if (!one.opened && may_ask(one)) try_open(one);
  if (!one.opened || !*one.opened || one.over) return;
  one.over = one.leaving && one.peer_closed;
  if (one.over) drop(one);
  if (one.leaving) return;
  bool moved = true;
  for (int pieces = 0; moved && pieces < kPiecesPerTurn; ++pieces) {
    const bool came = to_inside(one), went = !one.over && !one.leaving && to_channel(one);
    moved = came || went;
  }
  if (one.over) drop(one);
  if (one.over) return;
  if (one.leaving) ssh_channel_close(one.channel);  // which may read the answer to it as well
  if (moved || one.leaving) session_->wake();
}

bool Forwards::may_ask(const Forward& one) const {
  if (one.is_asked_for()) return true;
  return std::none_of(forwards_.begin(), forwards_.end(),
                      [&one](const auto& other) { return other->is_asked_for() && (one.alone || other->alone); });
}

void Forwards::try_open(Forward& one) {
  if (one.channel == nullptr) {
    one.channel = ssh_channel_new(session_->handle());
    one.number = kFirstChannel + channels_++;
    one.watch();
  }
  // sshd only logs whom it connects for; these are ssh's own words.
  const int answer =
      ssh_channel_open_forward(one.channel, one.target.host.c_str(), one.target.port, "127.0.0.1", 65535);
  if (answer == SSH_AGAIN) return;
  const Reason reason = answer == SSH_OK ? Reason{} : reason_in(ssh_get_error(session_->handle()));
  if (answer != SSH_OK && reason.channel != one.number && !one.alone) {
    // Several were refused at once, and libssh has kept the last reason. The answer was quick, and will be again.
    ssh_remove_channel_callbacks(one.channel, &one.callbacks);
    one.alone = true;
    one.channel = nullptr;
    session_->wake();
    return;
  }
  one.opened = answer == SSH_OK ? Result<void>(ok) : refused(one, reason.code, reason.text);
  one.signal.cancel();
}

// One piece from the channel to the socket. False: there is none, or no room.
bool Forwards::to_inside(Forward& one) {
  if (one.write_armed) return false;
  if (one.down.empty() && std::exchange(one.news, false)) {
    one.down.resize(kPieceBytes);
    const int got = ssh_channel_read_nonblocking(one.channel, one.down.data(), kPieceBytes, 0);
    one.down.resize(static_cast<std::size_t>(std::max(got, 0)));
    if (got > 0) one.news = true;  // there may be more
    if (got < 0 || (got == 0 && (ssh_channel_is_eof(one.channel) != 0 || ssh_channel_is_closed(one.channel) != 0)))
      one.over = true;
  }
  if (one.down.empty()) return false;
  const ssize_t put = ::send(one.inside.native_handle(), one.down.data(), one.down.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (put >= 0) {
    one.down.erase(one.down.begin(), one.down.begin() + put);
    return true;
  }
  if (errno == EAGAIN)
    arm(one, one.inside.wait_write, one.write_armed);
  else if (errno != EINTR)
    one.leaving = true;  // they have closed their end
  return false;
}

// One piece from the socket to the channel. False: there is none, or the network or the channel has no room.
bool Forwards::to_channel(Forward& one) {
  if (one.up.empty() && (one.read_armed || session_->is_clogged())) return false;
  if (one.up.empty()) {
    one.up.resize(kPieceBytes);
    const ssize_t got = ::recv(one.inside.native_handle(), one.up.data(), kPieceBytes, MSG_DONTWAIT);
    const int error = errno;
    one.up.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error == EAGAIN) arm(one, one.inside.wait_read, one.read_armed);
    one.leaving = got == 0 || (got < 0 && error != EAGAIN && error != EINTR);
    if (got <= 0) return false;
  }
  const int put = ssh_channel_write(one.channel, one.up.data(), static_cast<std::uint32_t>(one.up.size()));
  if (put < 0) one.over = true;
  if (put <= 0) return false;
  one.up.erase(one.up.begin(), one.up.begin() + put);
  return true;
}

void Forwards::arm(Forward& one, asio::posix::stream_descriptor::wait_type what, bool& armed) {
  armed = true;
  one.inside.async_wait(what,
                        [one = one.shared_from_this(), session = session_, &armed](const boost::system::error_code&) {
                          armed = false;
                          session->wake();
                        });
}

// --- the end ---------------------------------------------------------------------------------------------------------

void Forwards::drop(Forward& one) {
  one.over = true;
  boost::system::error_code ignored;  // of a socket that is given up
  one.inside.close(ignored);
  if (one.channel == nullptr) return;
  ssh_remove_channel_callbacks(one.channel, &one.callbacks);
  // One that sshd has not answered for stays with the session: libssh would take the answer for a fault.
  if (one.opened && one.opened->has_value()) {
    ssh_channel_close(one.channel);
    ssh_channel_free(one.channel);
  }
  one.channel = nullptr;
}

void Forwards::end(const Error& reason) {
  *ended_ = make_error(Errc::unreachable, fmt::format("the connection to jump host {} ended: {}", name_, reason.what));
  for (const auto& one : std::exchange(forwards_, {})) {
    if (!one->opened) one->opened = **ended_;
    one->signal.cancel();
    drop(*one);
  }
  if (on_end_) on_end_();
}

void Forwards::close() {
  session_->close();
}

}  // namespace llmlaunch::launcher::ssh
