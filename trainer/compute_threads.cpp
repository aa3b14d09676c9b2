// Threads that do nothing, in the place of OpenMP's. Called once, before the first pass.
#include "trainer/compute_threads.hpp"

#include <fmt/format.h>

#include <system_error>

#include "rendezvous/base/thread_limits.hpp"
#include "rendezvous/base/try_threads.hpp"

namespace llmlaunch::trainer {

Result<void> try_compute_threads(std::uint32_t threads) {
  if (threads < 2) return ok;
  const TriedThreads tried = try_threads(threads - 1);  // beside the one that is here
  if (!tried.failed) return ok;
  if (tried.failed == std::errc::not_enough_memory) {
    return make_error(Errc::out_of_resources,
                      fmt::format("there is no memory for compute thread {} of {}", tried.made + 2, threads), {},
                      "use fewer (--threads, OMP_NUM_THREADS), or see ulimit -v");
  }
  return make_error(
      Errc::out_of_resources,
      fmt::format("compute thread {} of {} cannot be started: {}", tried.made + 2, threads, tried.failed.message()), {},
      fmt::format("use fewer (--threads, OMP_NUM_THREADS), or {}", kSeeThreadLimits));
}

}  // namespace llmlaunch::trainer
