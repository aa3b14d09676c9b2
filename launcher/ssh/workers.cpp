// An event loop for each thread; see workers.hpp. What runs there is session.cpp's.
#include "launcher/ssh/workers.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <system_error>
#include <utility>

#include "launcher/ssh/ssh_shell.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {

struct Workers::Worker {
  std::shared_ptr<asio::io_context> context = std::make_shared<asio::io_context>(1);
  asio::executor_work_guard<asio::io_context::executor_type> work{context->get_executor()};
  asio::steady_timer first{*context};  // so that the context opens its descriptors now, and not for some session
  std::shared_ptr<std::atomic<bool>> answered = std::make_shared<std::atomic<bool>>(true);
  std::chrono::steady_clock::time_point asked;
  std::thread thread;
};

std::size_t worker_count(std::size_t hosts, std::size_t cores) {
  if (hosts < kHostsForWorkers || cores < 3) return 0;
  return std::min(cores - 1, kMostWorkers);
}

Workers::Workers(std::size_t count) {
  // Signals are for the event loop.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  workers_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    try {
      auto worker = std::make_unique<Worker>();
      worker->thread = std::thread([context = worker->context] { context->run(); });
      workers_.push_back(std::move(worker));
    } catch (const std::system_error& error) {
      log_warning("ssh sessions have {} threads instead of {}: {}", i, count, error.what());
      break;
    }
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Workers::~Workers() {
  stop();
}

std::shared_ptr<asio::io_context> Workers::next() {
  if (workers_.empty()) return nullptr;
  return workers_[next_++ % workers_.size()]->context;
}

std::chrono::milliseconds Workers::behind(std::chrono::steady_clock::time_point now) {
  std::chrono::milliseconds longest{0};
  for (const auto& worker : workers_) {
    if (worker->answered->exchange(false)) {
      worker->asked = now;
      asio::post(*worker->context, [answered = worker->answered] { *answered = true; });
    } else {
      longest = std::max(longest, std::chrono::duration_cast<std::chrono::milliseconds>(now - worker->asked));
    }
  }
  return longest;
}

void Workers::stop() {
  for (const auto& worker : workers_) worker->context->stop();
  for (const auto& worker : workers_) {
    worker->thread.join();
    worker->work.reset();
    worker->context->restart();
    worker->context->poll();
  }
  workers_.clear();
}

}  // namespace llmlaunch::launcher::ssh
