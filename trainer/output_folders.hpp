/// \file
/// The folders that a job writes into, as one job at a time may.
#pragma once

#include <array>

#include "rendezvous/base/result.hpp"
#include "trainer/options.hpp"
#include "trainer/output_lock.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

/// Of output_dir and logging_dir.
using OutputLocks = std::array<OutputLock, 2>;

/// Makes the folders that rank 0 writes into, and locks them; other ranks get locks that hold nothing. `Errc::locked`:
/// another job is at work there. Where --resume_from_checkpoint names a folder that is missing, nothing is made or
/// locked: the job is about to be refused.
Result<OutputLocks> lock_folders(const TrainOptions& options, const World& world);

}  // namespace llmlaunch::trainer
