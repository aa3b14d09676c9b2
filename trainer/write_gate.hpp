/// \file
/// Between what writes a file in a thread of its own and what ends the process: nothing is begun that could not be
/// brought to its end. Safe to use from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace llmlaunch::trainer {

class WriteGate {
 public:
  /// False once the gate is shut: nothing may be begun.
  bool begin() {
    const std::lock_guard lock(mutex_);
    if (!shut_) writing_ = true;
    return !shut_;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    ended_.notify_all();
  }
  /// For good, and returns when what was begun has ended, or after `limit`: false.
  bool shut(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    shut_ = true;
    return ended_.wait_for(lock, limit, [this] { return !writing_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool writing_ = false;
  bool shut_ = false;
};

}  // namespace llmlaunch::trainer
