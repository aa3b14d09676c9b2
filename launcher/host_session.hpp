/// \file
/// `HostSession`: one connection to one host's agent: frames out of a queue, messages in. Says what happens and decides
/// nothing. A host that is tried again gets a new session.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "launcher/agent/protocol.hpp"
#include "launcher/pushed_file.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher {

struct Opened {};
struct OpenFailed {
  Error error;
  OpenStep step;
};
struct Heard {};   ///< bytes came in; their messages follow
struct Pushed {};  ///< a piece of a file went out
struct Lost {
  Error error;
};
using SessionEvent = std::variant<Opened, OpenFailed, Heard, agent::AgentMessage, Pushed, Lost>;

class HostSession : public std::enable_shared_from_this<HostSession> {
 public:
  using EventFunction = std::function<void(SessionEvent event)>;

  /// `on_event` is called on the executor's thread, never from inside a call of this class, and not after `close`.
  HostSession(asio::any_io_executor executor, std::shared_ptr<RemoteShell> shell, std::size_t read_bytes,
              EventFunction on_event);

  /// Opens the shell; after `Opened` it reads until the end.
  void start();
  void send(const agent::HeadMessage& message);
  /// Sends the file after all messages that wait, and lets later messages overtake its pieces.
  void push(std::uint32_t index, std::shared_ptr<const PushedFile> file);
  void close();

  const RemoteShell& shell() const { return *shell_; }

 private:
  struct Push {
    std::uint32_t index;
    std::shared_ptr<const PushedFile> file;
    std::uint64_t offset = 0;
  };
  static asio::awaitable<void> read_all(std::shared_ptr<HostSession> self);
  static asio::awaitable<void> write_all(std::shared_ptr<HostSession> self);
  bool deliver(ByteView bytes);
  Result<Bytes> next_frames();
  void tell(SessionEvent event);

  asio::any_io_executor executor_;
  std::shared_ptr<RemoteShell> shell_;
  EventFunction on_event_;
  FrameDecoder decoder_;
  Bytes buffer_;
  Bytes queue_;  // whole frames
  std::deque<Push> pushes_;
  asio::steady_timer filled_;  // cancelled when there is something to write
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher
