/// \file
/// One thread that runs jobs in the order they were started: the trainer's communication thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// Jobs that may fail. After the first failure the rest are dropped and every call gives that error.
class Worker {
 public:
  using Job = std::function<Result<void>()>;

  Worker() : thread_([this] { run(); }) {}
  /// Lets the job that runs now end; those still queued are dropped.
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      jobs_.clear();
    }
    changed_.notify_all();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Queues a job. Fails when an earlier one has failed.
  Result<void> start(Job job) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) return *failure_;
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
    return ok;
  }

  /// Until every job started has ended; the first failure.
  Result<void> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return jobs_.empty() && !busy_; });
    if (failure_) return *failure_;
    return ok;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      busy_ = true;
      lock.unlock();
      Result<void> done = job();
      lock.lock();
      busy_ = false;
      if (!done && !failure_) {
        failure_ = done.error();
        jobs_.clear();
      }
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::optional<Error> failure_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace llmlaunch::trainer
