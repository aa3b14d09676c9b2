/// \file
/// Whether every rank runs rank 0's build, found before they connect: what another build sends over the ranks' own
/// connections may be anything.
#pragma once

#include <chrono>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

/// "llmlaunch-train 0.1.0 of sources 1f5d13033aed".
std::string this_program();

/// Rank 0 writes what it is into the job's store, and each other rank compares: `Errc::invalid_argument` on a rank that
/// is another, with both hosts. Key and value, "trainer/program" with program and host in a line each, stay as they are
/// in every version. `Errc::timed_out` where rank 0 has not come within `limit`.
Result<void> check_same_program(const World& world, std::chrono::milliseconds limit);

}  // namespace llmlaunch::trainer
