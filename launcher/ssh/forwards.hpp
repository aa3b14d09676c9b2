/// \file
/// `Forwards`: the connections that one signed-in session makes from its host to others (channels of the kind
/// direct-tcpip), each with a socket of this machine at our end. All of them are moved by the session's one pump. Used
/// by `JumpHost`; all calls from the thread of the event loop.
///
/// Nothing is dropped and little is kept: what the socket does not take closes the channel's window, so that the jump
/// host reads no more; what the channel does not take is not read from the socket.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/ssh/session.hpp"
#include "launcher/ssh/transport.hpp"

namespace llmlaunch::launcher::ssh {

/// Our end of one connection.
struct ForwardEnd {
  asio::posix::stream_descriptor stream;
  std::shared_ptr<const std::optional<Error>> ended;  ///< filled in when the session ended, and not the other end
};

class Forwards : public std::enable_shared_from_this<Forwards> {
 public:
  /// `name`: of the session's host, for messages. `on_end`: called when one of them has ended, or the session has.
  Forwards(std::shared_ptr<Session> session, std::string name, std::function<void()> on_end);
  ~Forwards();
  Forwards(const Forwards&) = delete;
  Forwards& operator=(const Forwards&) = delete;

  /// Once, before all else.
  Result<void> start();

  /// Connects from the session's host to `target`, whose name is looked up there, within its timeout.
  /// `Errc::unreachable`: the host says why not; with `where` set: the fault is the session's host's.
  asio::awaitable<Result<ForwardEnd>> open(TcpTarget target);

  /// Nobody uses it.
  bool idle() const { return forwards_.empty(); }
  bool ended() const { return ended_ && ended_->has_value(); }

  /// Ends the session, and with it all connections. Idempotent.
  void close();

 private:
  struct Forward;
  void move();
  void take_packets();
  void advance(Forward& one);
  bool may_ask(const Forward& one) const;
  void try_open(Forward& one);
  bool to_inside(Forward& one);
  bool to_channel(Forward& one);
  void arm(Forward& one, asio::posix::stream_descriptor::wait_type what, bool& armed);
  void drop(Forward& one);
  void end(const Error& reason);
  Error refused(const Forward& one, int code, const std::string& text) const;
  Error jump_failed(std::string what, std::string hint = {}) const;

  std::shared_ptr<Session> session_;
  std::string name_;
  std::function<void()> on_end_;
  ssh_channel listener_ = nullptr;  // never opened; freed with the session
  std::vector<std::shared_ptr<Forward>> forwards_;
  std::shared_ptr<std::optional<Error>> ended_ = std::make_shared<std::optional<Error>>();
  int channels_ = 0;  // opened so far
};

}  // namespace llmlaunch::launcher::ssh
