/// \file
/// How a job goes on from a checkpoint, and what goes into one. Only rank 0 touches files: the others get weights and
/// moments from it, so that hosts need no common file system.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/comm.hpp"
#include "trainer/options.hpp"
#include "trainer/schedule.hpp"

namespace llmlaunch::trainer {

struct Steps {
  std::uint64_t done = 0;
  std::uint64_t skipped = 0;  ///< of them: those whose gradient was no number, by --on_nan skip
  LossScale loss_scale = {};
};

/// What one run is, beside the weights: what checkpoints keep of it.
struct RunFacts {
  SampleAccounting accounting;
  TrainingLength length;
  JobPlan plan;
  OptimizerNumbers optimizer;
  FlagValues flags;  ///< once the ranks have agreed
};

struct Start {
  Steps steps;
  OptimizerNumbers optimizer;  ///< the checkpoint's, where there is one that has them
  bool tested = false;         ///< nothing, or not by this job, is to be made up for after the checkpoint's step
  bool refused = false;        ///< by rank 0, which says why
};

/// Brings all ranks to one state and gives the steps that are done: 0, with the initial weights, or those of the
/// checkpoint that --resume_from_checkpoint means. `say` is told, on rank 0, where the job goes on, and of damaged
/// checkpoints that were passed over; `course` gets, there, what was logged so far. Flags that differ from the
/// checkpoint's are warned of. Errors of rank 0: a checkpoint that cannot be read or whose images are dealt otherwise
/// than `run` says; an output_dir that has checkpoints of another job, also beside a checkpoint that lies elsewhere;
/// none in its own output_dir where that of another rank, on another host, has some. Rank 0 tells them (`told_once`).
/// `host`: this rank's. Collective.
Result<Start> start_state(const TrainOptions& options, const std::string& host, const RunFacts& run, Comm& comm,
                          Backend& backend, const std::function<void(const std::string&)>& say, Course& course);

/// A copy of everything, for a checkpoint.
Result<TrainingState> state_after(const Steps& steps, const TrainOptions& options, const RunFacts& run,
                                  const Course& course, const Comm& comm, Backend& backend);

/// Rank 0 reads the weights of the best checkpoint, if there is one, and all get them: true. Where rank 0 cannot, it
/// warns and gives that error, and the weights stay. Collective.
Result<bool> load_best(const std::optional<BestModel>& best, Comm& comm, Backend& backend,
                       std::optional<Error>& missing);

}  // namespace llmlaunch::trainer
