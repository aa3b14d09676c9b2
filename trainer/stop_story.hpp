/// \file
/// Who was told to stop, in the words of the line that ends a stopped job.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/comm.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

struct ToldToStop {
  std::string by;         ///< "SIGTERM", or where one rank alone was told: "SIGTERM to rank 2 on gpu03"
  std::string told_here;  ///< the same of this rank; empty: it was not told, or all were
};

/// Collective.
Result<ToldToStop> who_was_told_to_stop(const World& world, Comm& comm);

}  // namespace llmlaunch::trainer
