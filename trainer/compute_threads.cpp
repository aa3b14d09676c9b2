// Threads that do nothing, in the place of OpenMP's. Called once, before the first pass.
#include "trainer/compute_threads.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "rendezvous/base/thread_limits.hpp"

namespace llmlaunch::trainer {

Result<void> try_compute_threads(std::uint32_t threads) {
  std::vector<std::thread> made;
  std::vector<std::atomic<pid_t>> ids(threads);
  std::atomic<bool> all_there = false;
  Result<void> tried = ok;
  made.reserve(threads);
  try {
    while (made.size() + 1 < threads) {
      made.emplace_back([&all_there, &id = ids[made.size()]] {
        id = ::gettid();
        all_there.wait(false);
      });
    }
  } catch (const std::system_error& e) {
    tried = make_error(
        Errc::out_of_resources,
        fmt::format("compute thread {} of {} cannot be started: {}", made.size() + 2, threads, e.code().message()), {},
        fmt::format("use fewer (--threads, OMP_NUM_THREADS), or {}", kSeeThreadLimits));
  } catch (const std::bad_alloc&) {  // for what is said first to a thread
    tried = make_error(Errc::out_of_resources,
                       fmt::format("there is no memory for compute thread {} of {}", made.size() + 2, threads), {},
                       "use fewer (--threads, OMP_NUM_THREADS), or see ulimit -v");
  }
  all_there = true;
  all_there.notify_all();
  for (std::thread& thread : made) thread.join();
  // A thread that was joined counts for a limit until the kernel has taken it off its lists, which takes it no time.
  for (std::size_t i = 0; i < made.size(); ++i) {
    const std::string entry = fmt::format("/proc/self/task/{}", ids[i].load());
    while (::access(entry.c_str(), F_OK) == 0) ::sched_yield();
  }
  return tried;
}

}  // namespace llmlaunch::trainer
