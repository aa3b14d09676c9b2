#include "rendezvous/parallel.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"

namespace rendezvous_parallel_test {

using namespace llmlaunch::rendezvous;

TEST_CASE("each piece is done once and all are when it returns, however many threads there are") {
  for (const std::size_t threads : {0, 1, 2, 5}) {
    for (const std::size_t count : {0, 1, 31, 32, 33, 1000}) {
      std::vector<std::atomic<int>> times(count);
      in_parallel(count, threads, [&](std::size_t index) { ++times[index]; });
      for (const auto& each : times) REQUIRE(each == 1);
    }
  }
}

TEST_CASE("with one thread the caller's does it all, in order") {
  std::vector<std::size_t> done;
  in_parallel(100, 1, [&](std::size_t index) { done.push_back(index); });  // in another thread: TSan would tell
  REQUIRE(done.size() == 100);
  for (std::size_t index = 0; index < done.size(); ++index) CHECK(done[index] == index);
}

TEST_CASE("helpers work beside the caller, and get none of its signals") {
  const std::thread::id caller = std::this_thread::get_id();
  std::mutex mutex;
  std::condition_variable came;
  std::set<std::thread::id> seen;
  std::atomic<bool> met = true, helpers_masked = true, caller_open = true;
  in_parallel(1000, 2, [&](std::size_t index) {
    sigset_t mask;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    const bool masked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGCHLD) == 1;
    if (std::this_thread::get_id() == caller)
      caller_open = caller_open && !masked;
    else
      helpers_masked = helpers_masked && masked;
    std::unique_lock lock(mutex);
    seen.insert(std::this_thread::get_id());
    came.notify_all();
    // Whoever has the first piece waits for the other thread, which has another block then.
    if (index == 0) met = came.wait_for(lock, std::chrono::seconds(60), [&] { return seen.size() == 2; });
  });
  CHECK(met);
  CHECK(seen.size() == 2);
  CHECK(helpers_masked);
  CHECK(caller_open);
}

TEST_CASE("few pieces are not worth a thread, and no number of them is worth a whole head node") {
  struct Row {
    std::size_t count, cores, threads;
  };
  for (const Row& row : {Row{0, 64, 1},
                         {1, 64, 1},
                         {511, 64, 1},
                         {512, 64, 2},
                         {767, 64, 2},
                         {768, 64, 3},
                         {1024, 64, 4},
                         {1'000'000, 64, 4},
                         {1'000'000, 4, 4},
                         {1'000'000, 3, 4},
                         {1'000'000, 2, 3},  // one more than cores
                         {512, 2, 2},
                         {1'000'000, 1, 1},
                         {1'000'000, 0, 1}}) {
    INFO(row.count << " pieces, " << row.cores << " cores");
    CHECK(threads_for(row.count, row.cores) == row.threads);
  }
  for (const std::size_t count : {0, 511, 512, 1'000'000})
    CHECK(threads_for(count) == threads_for(count, std::thread::hardware_concurrency()));
}

}  // namespace rendezvous_parallel_test
