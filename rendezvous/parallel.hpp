/// \file
/// The same small piece of work for thousands of peers at once: the one place where a server's thread has help. Private
/// to this directory.
#pragma once

#include <cstddef>
#include <functional>

namespace llmlaunch::rendezvous {

/// Threads that are worth their start for `count` pieces on a machine of so many `cores` (0: nobody knows how many),
/// the caller's included.
std::size_t threads_for(std::size_t count, std::size_t cores);
/// The same on this machine.
std::size_t threads_for(std::size_t count);

/// Calls `work` once for each of 0 … count-1 and returns when all are done. So many `threads` at most share it, this
/// one among them; when the system gives fewer, these do it all. `work` is called by several at once, with different
/// numbers, and may not throw. It may touch what is this thread's own, which is in here meanwhile.
void in_parallel(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace llmlaunch::rendezvous
