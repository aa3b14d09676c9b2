/// \file
/// Whether all ranks have the same flags and the same images: what follows from them, the number of steps and their
/// order, is the same on all only then. Asked before the first step, over a communicator that works.
#pragma once

#include "rendezvous/base/result.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {

/// `Errc::invalid_argument` with both ranks, their hosts and values, told by one rank. Where there are files of images,
/// `job.data` knows its checksums afterwards. Collective.
Result<void> check_same_everywhere(TrainingJob& job);

}  // namespace llmlaunch::trainer
