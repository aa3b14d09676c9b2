/// \file
/// `InputShare`: llmlaunch's stdin on its way to the hosts whose ranks read it. Counts what was sent and taken, so that
/// no more is read than the slowest host has room for. Pure; part of `JobState`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llmlaunch::launcher {

class InputShare {
 public:
  /// `hosts`: indices of those that read.
  explicit InputShare(const std::vector<std::size_t>& hosts);

  /// How many bytes may be read and sent now; 0 after the end, and when nobody reads any more.
  std::size_t allowance() const;
  bool ended() const { return ended_; }
  /// Of the stream, since the start.
  std::uint64_t sent() const { return sent_; }
  void on_sent(std::size_t bytes) { sent_ += bytes; }
  void end() { ended_ = true; }
  /// False for bytes that were not sent. agent::kNobodyReads: the host drops out.
  bool on_taken(std::size_t host, std::uint64_t bytes);
  void drop(std::size_t host);
  /// Hosts that still read.
  std::vector<std::size_t> readers() const;

 private:
  struct Reader {
    std::size_t host;
    std::uint64_t taken = 0;
  };
  std::vector<Reader> readers_;
  std::uint64_t sent_ = 0;
  bool ended_ = false;
};

}  // namespace llmlaunch::launcher
