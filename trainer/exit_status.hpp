/// \file
/// llmlaunch-train's exit statuses (sysexits), and which error gives which.
#pragma once

#include "rendezvous/base/error.hpp"

namespace llmlaunch::trainer {

enum ExitStatus : int {
  kDone = 0,
  kUsage = 64,        ///< a wrong flag
  kDiverged = 65,     ///< loss or weights are no numbers, or nothing was learnt
  kNoInput = 66,      ///< the data is not there
  kUnavailable = 69,  ///< another rank, the rendezvous or the GPU
  kInternal = 70,     ///< a defect; ranks whose parameters differ
  kNoResources = 71,  ///< no memory
  kInputOutput = 74,  ///< a file cannot be read or written
  kEnded = 75,        ///< llmlaunch ended this generation, because another rank failed or the job was stopped;
                      ///< another job is at work in output_dir, logging_dir or on loss_file
  kConfig = 78,       ///< damaged data, wrong environment
};

/// Never kDone. A signal ends the process with 128 + its number instead.
int exit_status(const Error& error);

}  // namespace llmlaunch::trainer
