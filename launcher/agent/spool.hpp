/// \file
/// `Spool`: frames that wait on the host's disk while there is no way to the head; first in, first out. The file has no
/// name from the moment it is made, so that it goes with the agent, however that ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

// A rank that writes 1 MB/s fills it in a quarter of an hour; then it waits in its write().
inline constexpr std::uint64_t kMaxSpoolBytes = 1u << 30;

class Spool {
 public:
  /// `directories`: where the file may be made, the first that can be written is taken. Nothing is made before the
  /// first frame.
  explicit Spool(std::vector<std::string> directories) : directories_(std::move(directories)) {}

  /// Of the user's state and temporary directories, as the environment ("NAME=value") has them.
  static std::vector<std::string> usual_directories(const std::vector<std::string>& environment);

  /// The whole frame or nothing. Errors: no directory, a full disk.
  Result<void> append(ByteView frame, std::uint32_t payload_bytes);

  struct Frame {
    Bytes bytes;
    std::uint32_t payload_bytes = 0;  ///< of rank output in it
  };
  /// The oldest, or nothing. An emptied file gives its room back.
  Result<std::optional<Frame>> take();

  bool empty() const { return begin_ == end_; }
  bool full() const { return end_ >= kMaxSpoolBytes; }

 private:
  Result<void> open();

  std::vector<std::string> directories_;
  UniqueFd file_;
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
};

}  // namespace llmlaunch::launcher::agent
