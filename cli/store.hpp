/// \file
/// `llmlaunch store`: the store of a running job, from outside.
#pragma once

#include "cli/options.hpp"

namespace llmlaunch::cli {

/// The status to exit with.
int store_command(const StoreOptions& options);

}  // namespace llmlaunch::cli
