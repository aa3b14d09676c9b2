/// \file
/// Options that people know from accelerate launch, torchrun, DeepSpeed, mpirun and pdsh, and what stands for them
/// here.
#pragma once

#include <string_view>

namespace llmlaunch::cli {

/// A sentence for who typed `option` ("--nnodes") to `llmlaunch run`; empty when no other launcher is known to have it.
std::string_view instead_of_foreign(std::string_view option);

}  // namespace llmlaunch::cli
