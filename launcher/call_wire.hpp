/// \file
/// One connection between a machine that calls in and machine 0: TLS 1.3 whose key is the job's token, so that whoever
/// gets through the handshake has the token, on both sides, and nobody else reads along. Messages in, messages out.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>

#include "launcher/call_messages.hpp"
#include "launcher/call_token.hpp"
#include "rendezvous/asio_tls.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// What all connections of one side share.
class CallTls {
 public:
  enum class Side { head, member };
  CallTls(Side side, const CallToken& token);
  Side side() const { return side_; }
  asio::ssl::context& context() { return context_; }

 private:
  Side side_;
  CallToken::Key key_;
  asio::ssl::context context_;
};

/// All calls belong to the executor's thread. One reader at a time; any number of senders.
class CallWire : public std::enable_shared_from_this<CallWire> {
 public:
  CallWire(asio::ip::tcp::socket socket, std::shared_ptr<CallTls> tls);
  ~CallWire();

  /// `begun`: what was read of the connection already. Errors: `Errc::unauthenticated` when the other side has another
  /// token, `Errc::timed_out`, `Errc::closed`, `Errc::protocol`.
  asio::awaitable<Result<void>> handshake(Bytes begun, std::chrono::milliseconds limit);

  /// Behind all that waits. Nothing once the connection is gone.
  void send(const CallMessage& message);
  /// Until little waits to be sent, or the connection is gone.
  asio::awaitable<void> drained();
  /// The next message. `Errc::closed` at the end.
  asio::awaitable<Result<CallMessage>> next();
  /// From now on frames of the size of CallData are taken, and a way that is cut is borne for `patience`, as long as
  /// the agents bear it (timeouts.head); never shorter than on any connection.
  void trust(std::chrono::milliseconds patience);

  /// At once; what waits is dropped.
  void close();
  /// When all is sent; the other side has two seconds to close before that is done here.
  void close_when_sent();
  bool closed() const { return closed_; }

 private:
  static asio::awaitable<void> write_all(std::shared_ptr<CallWire> self);

  std::shared_ptr<CallTls> tls_;
  asio::ssl::stream<asio::ip::tcp::socket> stream_;
  FrameDecoder decoder_{kMaxCallHelloBytes};
  std::deque<Bytes> queue_;
  std::size_t queued_bytes_ = 0;
  asio::steady_timer filled_;
  asio::steady_timer emptied_;
  std::optional<Deadline> parting_;
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher
