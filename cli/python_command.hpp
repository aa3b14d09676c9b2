/// \file
/// Words of the command line → argv, as accelerate and torchrun read them: a .py file and a module are run by Python.
/// Used by run.
#pragma once

#include <string>
#include <vector>

#include "cli/options.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::cli {

/// `python`: what runs them, from the command line or the file; "" is python3, or python, of the host's PATH. A .py
/// file that may be executed is run by Python all the same. Everything else, and all with --no-python, stays as it is.
launcher::Command python_command(const RunOptions& options, const std::string& python);

/// What `--nproc-per-node gpu|cpu|auto` comes to on this machine: GPUs that CUDA_VISIBLE_DEVICES leaves, cores, GPUs or
/// else cores. Errors: `Errc::usage` when other hosts take part, or there is no GPU.
Result<std::uint32_t> devices_here(const std::string& kind, const launcher::Config& config,
                                   const launcher::EnvList& environment);

}  // namespace llmlaunch::cli
