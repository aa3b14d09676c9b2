/// \file
/// Threads that a library is about to make. asio::thread_pool waits for ever in its constructor when one of them cannot
/// be made; glibc keeps the stacks of those that were tried for those that follow.
#pragma once

#include <cstddef>
#include <latch>
#include <thread>
#include <vector>

namespace llmlaunch {

/// `number`, when so many threads can be there at once. Throws std::system_error else, with none left.
inline std::size_t tried_threads(std::size_t number) {
  std::latch all_tried{1};
  std::vector<std::thread> threads;
  const auto end = [&] {
    all_tried.count_down();
    for (std::thread& one : threads) one.join();
  };
  try {
    threads.reserve(number);
    while (threads.size() < number) threads.emplace_back([&all_tried] { all_tried.wait(); });
  } catch (...) {
    end();
    throw;
  }
  end();
  return number;
}

}  // namespace llmlaunch
