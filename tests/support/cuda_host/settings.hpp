/// \file
/// What tests choose about the emulated device, from the environment of the process:
///
///   LLMLAUNCH_CUDA_HOST_SEED=N          the order of work that nothing orders, 0 (default): as late as is allowed
///   LLMLAUNCH_CUDA_HOST_DEVICES=N       how many there are (default 1)
///   LLMLAUNCH_CUDA_HOST_CAPABILITY=N    their compute capability's first number (default 9)
///   LLMLAUNCH_CUDA_HOST_FAIL=RULES      calls that fail: "cudaMalloc:3=2,ncclAllReduce:10=2" is the third cudaMalloc
///   with
///                                       error 2 and so on, a rank's own as "cudaMalloc:3=2@1". The name "work" counts what
///                                       is done on streams: that one fails where it runs, and everything after it
#pragma once

#include <cstdint>
#include <string>

namespace cuda_host {

struct Settings {
  std::uint64_t seed = 0;
  int devices = 1;
  int capability = 9;
};
const Settings& settings();

/// Counts a call of this name. The error that it is to give, or 0.
int injected_failure(const char* name);

}  // namespace cuda_host
