// Helper threads that live as long as one call; see parallel.hpp. Starting one costs less than ten sends, and none
// idles between two calls that may be hours apart.
#include "rendezvous/parallel.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <system_error>
#include <thread>
#include <vector>

namespace llmlaunch::rendezvous {
namespace {

// A thread costs some 50 µs to start and a send some 10: so many pay it back many times.
constexpr std::size_t kPiecesPerThread = 256;
// The kernel's TCP is shared by all, and other jobs run on a head node.
constexpr std::size_t kMostThreads = 4;
// Taken at a time: few enough that all end together, enough that the counter is not what they wait for.
constexpr std::size_t kBlock = 32;

// Signals are for the event loop: threads that start meanwhile get none.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

std::size_t threads_for(std::size_t count, std::size_t cores) {
  const std::size_t most = std::min(count / kPiecesPerThread, kMostThreads);
  // One more than cores: Linux may start a helper where the caller runs, and leaves it there while the receivers, who
  // sleep for microseconds between two messages, have the other core to themselves.
  return most < 2 || cores < 2 ? 1 : std::min(cores + 1, most);
}

std::size_t threads_for(std::size_t count) {
  if (count < 2 * kPiecesPerThread) return 1;  // nearly always: the cores are not asked for
  return threads_for(count, std::thread::hardware_concurrency());
}

void in_parallel(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  const auto take_part = [&] {
    for (std::size_t from = next.fetch_add(kBlock); from < count; from = next.fetch_add(kBlock)) {
      for (std::size_t index = from; index < std::min(count, from + kBlock); ++index) work(index);
    }
  };
  std::vector<std::jthread> helpers;  // joined when they go
  if (threads > 1) {
    helpers.reserve(threads - 1);
    const NoSignals masked;
    try {
      while (helpers.size() + 1 < threads) helpers.emplace_back(take_part);
    } catch (const std::system_error&) {
      // No thread is to be had: whoever there is does it all.
    }
  }
  take_part();
}

}  // namespace llmlaunch::rendezvous
