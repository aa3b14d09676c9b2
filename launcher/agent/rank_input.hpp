/// \file
/// `RankInput`: the head's stdin on its way to the ranks of one host. One buffer of at most kInputWindowBytes that
/// every reader goes through at its own pace; the slowest one holds the credit back. No descriptor: bytes in, views
/// out.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher::agent {

class RankInput {
 public:
  /// `readers`: how many ranks take all of it.
  explicit RankInput(std::size_t readers = 0) : readers_(readers) {}

  /// `Errc::protocol` for bytes after the end, a gap, or more than the window. What came before (a head that repeats
  /// itself after a lost connection) is passed over.
  Result<void> add(const Input& input);
  void end() { ended_ = true; }

  /// What waits for this reader. Valid until the next call of a non-const function.
  ByteView waiting(std::size_t reader) const;
  void took(std::size_t reader, std::size_t bytes);
  /// It reads no more: its end of the pipe is closed, or the rank has ended.
  void drop(std::size_t reader);
  bool dropped(std::size_t reader) const { return readers_[reader].dropped; }
  /// It has everything that there will ever be.
  bool complete(std::size_t reader) const;

  /// What the head is to be told now, when that is worth a frame.
  std::optional<InputTaken> credit();
  /// The head may not have heard of it.
  void tell_again() { told_ = 0; }

 private:
  struct Reader {
    std::uint64_t taken = 0;
    bool dropped = false;
  };
  std::uint64_t added() const { return start_ + buffer_.size(); }
  void trim();

  std::vector<Reader> readers_;
  Bytes buffer_;             // from `start_` of the stream
  std::uint64_t start_ = 0;  // all readers have what is before
  std::uint64_t told_ = 0;
  bool ended_ = false;
};

}  // namespace llmlaunch::launcher::agent
