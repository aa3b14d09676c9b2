/// \file
/// Whether the threads of a rank's computations can be made. OpenMP makes them inside a library, and where it cannot,
/// it ends the process with its own words and a status of 1.
#pragma once

#include <cstdint>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// Makes as many threads as OpenMP needs beside the calling one for `threads`, all at the same time, and ends them;
/// when this returns, the kernel counts none of them any more. `Errc::out_of_resources` where there is no room for all.
Result<void> try_compute_threads(std::uint32_t threads);

}  // namespace llmlaunch::trainer
