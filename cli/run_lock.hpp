/// \file
/// `--lock`: one run of a configuration at a time, for cron. A lock of the kernel on a file of the user's: whoever
/// holds it is gone when it is free, and nothing is left to be cleaned up after a crash. Used by run.
#pragma once

#include <string>
#include <utility>

#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

class RunLock {
 public:
  RunLock() = default;
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  void swap(RunLock& other) noexcept { std::swap(fd_, other.fd_); }
  ~RunLock();

  /// For the configuration file `config` (the file, whatever name it goes by; "": none), until the object or the
  /// process ends. Errors: `Errc::locked` with who holds it since when; else what the system says of the file.
  static Result<RunLock> take(const std::string& config, const std::string& job_id,
                              const launcher::EnvList& environment);

 private:
  explicit RunLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace llmlaunch::cli
