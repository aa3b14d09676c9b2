/// \file
/// How a job goes on from a checkpoint, and what goes into one. Only rank 0 touches files: the others get weights and
/// moments from it, so that hosts need no common file system.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/comm.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

struct Steps {
  std::uint64_t done = 0;
  std::uint64_t skipped = 0;  ///< of them: those whose gradient was no number
};

/// Brings all ranks to one state and gives the steps that are done: 0, with the initial weights, or those of the
/// checkpoint that --resume_from_checkpoint means. `say` is told, on rank 0, where the job goes on, and of damaged
/// checkpoints that were passed over. Errors of rank 0: a checkpoint that cannot be read or whose images are dealt
/// otherwise than `accounting` says; an output_dir that has checkpoints of another job. Collective.
Result<Steps> start_state(const TrainOptions& options, const SampleAccounting& accounting, Comm& comm, Backend& backend,
                          const std::function<void(const std::string&)>& say);

/// A copy of everything, for a checkpoint.
Result<TrainingState> state_after(const Steps& steps, const TrainOptions& options, const SampleAccounting& accounting,
                                  const Comm& comm, Backend& backend);

}  // namespace llmlaunch::trainer
