/// \file
/// How the ranks of a job leave each other.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string_view>

#include "rendezvous/client.hpp"

namespace llmlaunch::trainer {

/// Returns when all ranks are here. Over the rendezvous and not over the ranks' own connections: nobody waits for a
/// byte of another's then. `Errc::timed_out` after `limit`.
inline Result<void> meet_at_end(rendezvous::Client& client, std::string_view name, std::chrono::milliseconds limit) {
  auto met = client.barrier(name, limit);
  if (met || met.error().code != Errc::timed_out) return met;
  return make_error(
      Errc::timed_out,
      fmt::format("the end of the job: not all ranks came within {} s", static_cast<double>(limit.count()) / 1000), {},
      "a rank hangs, or rank 0 still writes its last checkpoint; --ddp_timeout sets the limit");
}

}  // namespace llmlaunch::trainer
