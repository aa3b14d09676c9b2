/// \file
/// `CarriedStreams`: the head's half of connections that one host's agent carries (agent/carrier.hpp is the other): for
/// each of them one of our own to the rendezvous, and bytes both ways within windows. They belong to the job and not to
/// the ssh session: when that is cut and made again, they go on. All on the executor's thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

class CarriedStreams : public std::enable_shared_from_this<CarriedStreams> {
 public:
  using SendFunction = std::function<void(agent::HeadMessage message)>;
  using ConfirmFunction = std::function<void()>;

  /// `port`: of 127.0.0.1, where the rendezvous listens. `most`: connections at a time. `send` gives messages to the
  /// host, `confirm` tells its agent how much of it has come; neither is called after `close`.
  CarriedStreams(asio::any_io_executor executor, std::uint16_t port, std::size_t most, SendFunction send,
                 ConfirmFunction confirm);

  /// One of the Carried… messages. `Errc::protocol`: more bytes than the window holds, a connection that never was.
  Result<void> take(agent::AgentMessage message);
  /// The host says no more. What came goes to the rendezvous, and behind it the end.
  void close();

 private:
  struct Stream;
  using Self = std::shared_ptr<CarriedStreams>;
  using StreamPointer = std::shared_ptr<Stream>;
  static asio::awaitable<void> connect(Self self, StreamPointer stream);
  static asio::awaitable<void> to_server(Self self, StreamPointer stream);
  static asio::awaitable<void> to_host(Self self, StreamPointer stream);
  StreamPointer find(std::uint32_t id) const;
  void tell(agent::HeadMessage message);
  void reset(const StreamPointer& stream, bool tell_host);
  void forget_if_over(const StreamPointer& stream);
  void confirm_later(std::size_t bytes);

  asio::any_io_executor executor_;
  std::uint16_t port_;
  std::size_t most_;
  SendFunction send_;
  ConfirmFunction confirm_;
  std::map<std::uint32_t, StreamPointer> streams_;
  std::uint32_t next_id_ = 0;
  std::array<std::byte, agent::kCarriedChunkBytes> buffer_;  // of whoever reads just now
  std::size_t frames_unconfirmed_ = 0;
  std::size_t bytes_unconfirmed_ = 0;
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher
