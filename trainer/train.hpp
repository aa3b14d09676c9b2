/// \file
/// One training job, from the data to the test accuracy; the trainer's story.
#pragma once

#include <functional>

#include "rendezvous/base/result.hpp"
#include "trainer/device.hpp"
#include "trainer/options.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

enum class Ending {
  done,
  stopped,  ///< by a signal (stop.hpp), and the state was saved
};

/// Trains a model as the options say and prints what a person wants to see on stdout, from rank 0. Collective: every
/// rank of the world calls it with the same options.
/// `tell` gets an error as soon as it is known, before anything waits for a disk.
/// `at_end` is told how the job ended while all connections still stand, and may end the process.
Result<Ending> train(const TrainOptions& options, World& world, const DevicePlan& plan,
                     const std::function<void(const Error&)>& tell,
                     const std::function<void(const Result<Ending>&)>& at_end);

/// Of an allocation that failed anywhere: `Errc::out_of_resources`.
Error no_memory();

}  // namespace llmlaunch::trainer
