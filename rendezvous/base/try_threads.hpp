/// \file
/// Threads that a library is about to make, tried before. libgomp ends the process, and asio::thread_pool waits for
/// ever in its constructor, when one of them cannot be made. glibc keeps the stacks of those that were tried for those
/// that follow.
#pragma once

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace llmlaunch {

struct TriedThreads {
  std::size_t made = 0;    ///< at once; none of them is left
  std::error_code failed;  ///< why there were no more; std::errc::not_enough_memory: what is first said to a thread
};

inline TriedThreads try_threads(std::size_t wanted) {
  TriedThreads tried;
  std::vector<std::thread> made;
  std::vector<std::atomic<pid_t>> ids(wanted);
  std::atomic<bool> all_there = false;
  made.reserve(wanted);
  try {
    while (made.size() < wanted) {
      made.emplace_back([&all_there, &id = ids[made.size()]] {
        id = ::gettid();
        all_there.wait(false);
      });
    }
  } catch (const std::system_error& e) {
    tried.failed = e.code();
  } catch (const std::bad_alloc&) {
    tried.failed = std::make_error_code(std::errc::not_enough_memory);
  }
  all_there = true;
  all_there.notify_all();
  for (std::thread& thread : made) thread.join();
  // A thread that was joined counts for a limit until the kernel has taken it off its lists, which takes it no time.
  for (std::size_t i = 0; i < made.size(); ++i) {
    const std::string entry = "/proc/self/task/" + std::to_string(ids[i].load());
    while (::access(entry.c_str(), F_OK) == 0) ::sched_yield();
  }
  tried.made = made.size();
  return tried;
}

/// `wanted`, where so many can be there. Throws std::system_error else.
inline std::size_t tried_threads(std::size_t wanted) {
  const TriedThreads tried = try_threads(wanted);
  if (tried.failed) throw std::system_error(tried.failed);
  return wanted;
}

}  // namespace llmlaunch
