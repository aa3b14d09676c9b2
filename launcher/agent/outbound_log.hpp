/// \file
/// `OutboundLog`: what the agent has to say and the head has not confirmed yet. Outputs, events and what is carried are
/// three queues, each in order; carried frames and outputs take turns. Outputs go out as far as the head's credit
/// reaches. After a cut both are sent again from where the head stands. Outputs that memory has no room for, which
/// happens without a connection only, wait in the spool.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "launcher/agent/protocol.hpp"
#include "launcher/agent/spool.hpp"

namespace llmlaunch::launcher::agent {

// With the frames' own cost: twice the window, so that short pieces of output do not fill it before the window is.
inline constexpr std::size_t kMaxLogBytes = 2 * kDefaultWindowBytes;

class OutboundLog {
 public:
  explicit OutboundLog(Spool spool) : spool_(std::move(spool)) {}

  void add_event(Bytes frame);
  /// `payload_bytes`: what counts for the window.
  void add_output(Bytes frame, std::uint32_t payload_bytes);
  /// Bounded by its own windows.
  void add_carried(Bytes frame);
  /// The last output of all: it waits for everything that is carried.
  void add_last(Bytes frame);

  /// May ranks be read? Connected: as long as memory has room. Without a connection the spool has it too.
  bool has_room(bool connected) const;

  /// The next frame to send, events first; empty when there is none or the window, counted from `acked_bytes`, is full.
  ByteView next(std::uint64_t acked_bytes, std::uint64_t window_bytes);
  /// Everything was given out by `next`.
  bool all_sent() const;

  /// The head has these: they are forgotten. `Errc::protocol`: it confirms more than was sent. A spool that cannot be
  /// read back is an error too.
  Result<void> confirm(const Ack& state);
  /// The same, and what it has not is sent once more.
  Result<void> rewind(const Ack& state);

 private:
  struct Frame {
    Bytes bytes;
    std::uint64_t payload_end = 0;  // of outputs: bytes of rank output since the start, with this frame's
  };
  struct Queue {
    std::deque<Frame> frames;     // not confirmed
    std::uint64_t confirmed = 0;  // frames since the start
    std::size_t sent = 0;         // of `frames`
  };
  Result<void> confirm(Queue& queue, std::uint64_t count);
  bool may_send_output(std::uint64_t acked_bytes, std::uint64_t window_bytes) const;
  void keep_output(Bytes frame, std::uint32_t payload_bytes);
  Result<void> refill();

  Queue events_;
  Queue outputs_;
  Queue carried_;
  bool carried_turn_ = false;
  bool has_last_ = false;  // the last frame of outputs_ is the last of all
  std::uint64_t payload_bytes_ = 0;
  std::size_t memory_bytes_ = 0;
  Spool spool_;
  std::deque<Spool::Frame> overflow_;  // read before the disk was known to be full
};

}  // namespace llmlaunch::launcher::agent
