/// \file
/// `InputReader`: reads llmlaunch's own stdin while somebody wants bytes, without ever waiting in a read or changing
/// the flags of a description that other programs share. Used by `Job` when `--stdin` asks for it; one thread.
///
/// A terminal is read only while llmlaunch is in its foreground; in the background it waits for `retry`. SIGTTIN is
/// ignored meanwhile, so that a shell that moves it between the look and the read cannot stop the job.
#pragma once

#include <csignal>
#include <functional>
#include <memory>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher {

class InputReader {
 public:
  using DataFunction = std::function<void(Bytes data)>;  ///< empty: the end, or an error, which ends it as well

  /// `fd` stays the caller's. `on_data` is called on the executor's thread, never from inside a call of this class,
  /// and not after `close`.
  InputReader(const asio::any_io_executor& executor, int fd, DataFunction on_data);
  ~InputReader();
  InputReader(const InputReader&) = delete;
  InputReader& operator=(const InputReader&) = delete;

  /// So many bytes are wanted from now on; 0: none.
  void want(std::size_t bytes);
  /// Looks whether llmlaunch has come to the foreground. To be called about once a second.
  void retry();
  void close();

 private:
  struct State;
  static asio::awaitable<void> read_all(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
  struct sigaction ttin_before_ {};
};

}  // namespace llmlaunch::launcher
