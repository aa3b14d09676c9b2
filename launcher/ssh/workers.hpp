/// \file
/// `Workers`: threads that ssh sessions live on, so that the head's cores share their cryptography. A session stays on
/// one of them from its first byte to its last (session.hpp); whoever uses it stays on the event loop, and what goes
/// between the two is a coroutine that is handed over and its result. Nothing else is shared.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "rendezvous/asio.hpp"

namespace llmlaunch::launcher::ssh {

/// A launch of fewer hosts is over before a second thread would pay.
inline constexpr std::size_t kHostsForWorkers = 16;
/// Beyond that the loop, which all output goes through, is what limits.
inline constexpr std::size_t kMostWorkers = 8;

class Workers {
 public:
  /// Starts so many threads, 0 or more; says so when there are fewer.
  explicit Workers(std::size_t count);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Where the next session lives, each thread in its turn; null without threads.
  std::shared_ptr<asio::io_context> next();

  /// How long the slowest thread has owed an answer to the question that an earlier call put at the end of its queue; 0
  /// when all have answered, and without threads. To be called now and then, from the loop's thread.
  std::chrono::milliseconds behind(std::chrono::steady_clock::time_point now);

  /// Ends the threads, and does what was left in their queues: sessions that were closed are gone then. Idempotent;
  /// from the loop's thread.
  void stop();

 private:
  struct Worker;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t next_ = 0;
};

}  // namespace llmlaunch::launcher::ssh
