/// \file
/// A ProxyCommand: a program of the user's whose stdin and stdout lead to a host's sshd. Run by the user's shell in a
/// session of its own, so that it has no terminal to ask at, and ended with its whole process group. All calls from the
/// thread of the event loop.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

class ProxyCommand : public std::enable_shared_from_this<ProxyCommand> {
 public:
  using Noise = std::function<void(std::string_view line)>;
  struct Started {
    std::shared_ptr<ProxyCommand> command;
    asio::posix::stream_descriptor stream;  ///< its stdin and stdout
  };

  /// $SHELL -c "exec `command`", or /bin/sh. Its stderr goes to `noise`, line by line. Errors of the system calls; a
  /// command that does not exist is the shell's to tell.
  static Result<Started> start(asio::any_io_executor executor, const std::string& command, Noise noise);
  ~ProxyCommand();
  ProxyCommand(const ProxyCommand&) = delete;
  ProxyCommand& operator=(const ProxyCommand&) = delete;

  /// Its exit status, 128+n after a signal, once its words are told; nothing when it still runs after a second.
  asio::awaitable<std::optional<int>> await_end();

  /// For when its stdin has ended: half a second to go by itself, then SIGTERM to its group, SIGKILL a second later.
  /// Idempotent.
  void close();

 private:
  ProxyCommand(asio::any_io_executor executor, pid_t pid, Noise noise);
  static asio::awaitable<void> follow_errors(std::shared_ptr<ProxyCommand> self, asio::posix::stream_descriptor errors);
  asio::awaitable<std::optional<int>> await_end_within(std::chrono::milliseconds patience);
  static asio::awaitable<void> end(std::shared_ptr<ProxyCommand> self);
  bool has_ended();
  void reap();

  asio::any_io_executor executor_;
  pid_t pid_;  // -1: its status was taken, and the number may be another's
  std::optional<int> status_;
  Noise noise_;
  bool has_said_all_ = false;
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher::ssh
