/// \file
/// `HostSession`: the way to one host's agent: frames out of a queue, messages in. Says what happens and decides
/// nothing. A host that is tried again before its ranks run gets a new session. While they run the same session goes on
/// over another connection: it knows what the agent has heard and what was heard of it, so that nothing is lost and
/// nothing comes twice (agent/protocol.hpp has the rules).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
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
struct Rejoined {};   ///< the agent and this session are where they were before the cut
struct NotRejoined {  ///< and will not be: the agent is gone, or has another head
  Error error;
};
using SessionEvent = std::variant<Opened, OpenFailed, Heard, agent::AgentMessage, Pushed, Lost, Rejoined, NotRejoined>;

class HostSession : public std::enable_shared_from_this<HostSession> {
 public:
  using EventFunction = std::function<void(SessionEvent event)>;

  /// `on_event` is called on the executor's thread, never from inside a call of this class, and not after `close`.
  HostSession(asio::any_io_executor executor, std::shared_ptr<RemoteShell> shell, std::size_t read_bytes,
              EventFunction on_event);

  /// Opens the shell; after `Opened` it reads until the end.
  void start();
  void send(const agent::HeadMessage& message);
  /// After `Lost`, or instead of waiting for it: gives the connection up and goes on over `shell`. Orders sent
  /// meanwhile are kept for the agent. Answer: `Rejoined`, `OpenFailed` (try again), or `NotRejoined`. `how`: name and
  /// key.
  void reopen(std::shared_ptr<RemoteShell> shell, agent::Resume how);
  /// Tells the agent how many of its messages have come, so that it need not keep them.
  void confirm() { send(agent::Ack{heard_.output_bytes, 0, 0, 0}); }
  /// Sends the file after all messages that wait, and lets later messages overtake its pieces.
  void push(std::uint32_t index, std::shared_ptr<const PushedFile> file);
  /// Ends the connection; behind a Bye, if that was sent, when the agent has ended or two seconds later.
  void close();

  const RemoteShell& shell() const { return *shell_; }

 private:
  struct Push {
    std::uint32_t index;
    std::shared_ptr<const PushedFile> file;
    std::uint64_t offset = 0;
  };
  using ShellPointer = std::shared_ptr<RemoteShell>;
  static asio::awaitable<void> read_all(std::shared_ptr<HostSession> self, ShellPointer shell);
  static asio::awaitable<void> write_all(std::shared_ptr<HostSession> self, ShellPointer shell);
  bool is_over(const ShellPointer& shell) const { return closed_ || shell_ != shell; }
  bool deliver(ByteView bytes);
  bool take(agent::AgentMessage message);
  bool take_answer(const agent::AgentMessage& message);
  void lose(Error error);
  void enqueue(const Bytes& frame);
  void forget_orders(std::uint64_t taken);
  Result<Bytes> next_frames();
  void tell(SessionEvent event);

  asio::any_io_executor executor_;
  std::shared_ptr<RemoteShell> shell_;
  EventFunction on_event_;
  FrameDecoder decoder_;
  const std::size_t read_bytes_;
  const std::unique_ptr<std::byte[]> buffer_;  // not initialised: what was never read into takes no memory
  Bytes queue_;                                // whole frames
  std::deque<Push> pushes_;
  agent::Ack heard_;                        // what was received, and the credit last given
  std::deque<Bytes> orders_;                // that the agent has not confirmed
  std::uint64_t first_order_ = 0;           // how many came before `orders_`
  std::optional<agent::Resume> rejoining_;  // set: the connection was cut
  bool leaving_ = false;                    // Bye is to be sent
  bool parting_ = false;                    // closed, but for the Bye and the agent's end
  std::optional<Deadline> parting_limit_;
  asio::steady_timer filled_;  // cancelled when there is something to write
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher
