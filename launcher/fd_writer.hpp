/// \file
/// `FdWriter`: all bytes to a terminal, pipe or file that may take its time, in a way that another thread can end, and
/// without touching flags that other processes share.
#pragma once

#include <string_view>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

class FdWriter {
 public:
  /// `fd` stays the caller's. `wake` becomes readable when patience is over: from then on only what the descriptor
  /// takes at once is written.
  FdWriter(int fd, int wake);

  /// Errc::closed when nobody can read it any more (a pager that was quit), Errc::canceled when `wake` fired and
  /// bytes were left, else the system's error.
  Result<void> write(std::string_view bytes);

 private:
  int target() const { return own_ ? own_.value() : fd_; }

  int fd_;
  int wake_;
  UniqueFd own_;  // the same file opened again, non-blocking
  bool is_socket_ = false;
  bool never_waits_ = false;  // a regular file
};

}  // namespace llmlaunch::launcher
