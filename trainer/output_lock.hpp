/// \file
/// One job at a time in an output_dir, a logging_dir and a file of losses: rank 0 holds a lock on a file from its start
/// to its end, however it ends.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// The file in the folder. It stays: a lock on a file that was removed would keep nobody out.
inline constexpr const char* kOutputLock = ".llmlaunch-train.lock";

/// Locks an open file until it is closed; false where another job holds it. Pipes and devices are everybody's, and a
/// file system that knows no locks keeps nobody out.
bool lock_alone(int descriptor);

class OutputLock {
 public:
  /// Holds nothing.
  OutputLock() = default;
  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&& other) noexcept;
  ~OutputLock();

  /// `Errc::locked` names the process and host of the job that is at work in `folder`, which `flag` named. Where there
  /// is no such folder, the file cannot be made or the file system knows no locks, the answer holds nothing: what
  /// cannot be done there is told by those who do it.
  static Result<OutputLock> take(const std::string& folder, const std::string& host, const std::string& flag);

  /// Where somebody has removed the file, or its folder: takes the lock once more, in a folder that is made anew.
  /// `Errc::locked`: another job was faster.
  Result<void> keep();

  bool holds() const { return descriptor_ >= 0; }

 private:
  OutputLock(int descriptor, std::string folder, std::string host, std::string flag);

  int descriptor_ = -1;
  std::string folder_, host_, flag_;
};

}  // namespace llmlaunch::trainer
