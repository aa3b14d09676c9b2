/// \file
/// A TCP connection for a thread that may block, but never beyond a deadline. Used by `Client`, private to this
/// directory. `send` and `receive` may be called from two threads at once; all else belongs to the owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::rendezvous {

class Connection {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Looks the name up and tries its addresses in turn, once. Errors: `timed_out`, `not_found` for an unknown name, or
  /// the system's code. A name service that does not answer in time is left to itself, in a thread of its own.
  static Result<Connection> open(const std::string& address, std::uint16_t port, TimePoint deadline);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;

  /// All bytes, or an error after which the stream is of no use.
  Result<void> send(ByteView bytes, TimePoint deadline);

  /// At least one byte; `closed` at the stream's end. Without a deadline waits until `shut_down`.
  Result<std::size_t> receive(std::span<std::byte> into, std::optional<TimePoint> deadline);

  /// Nothing more will be sent.
  void finish_sending();
  /// Ends both directions; a `receive` in another thread returns.
  void shut_down();

 private:
  explicit Connection(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace llmlaunch::rendezvous
