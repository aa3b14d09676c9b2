/// \file
/// The one place that writes to stdout: a disk that is full or a reader that has gone costs lines and never the job.
/// Used by the main thread.
#pragma once

#include <cstdio>
#include <string_view>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// Where descriptor 0, 1 or 2 is closed, nothing else that is opened gets its number: writing there fails, and does not
/// go into a checkpoint or a connection. Before anything is opened.
void keep_standard_descriptors();

/// Writes at once; never throws. What cannot be written is lost; the first failure is a warning, unless `quiet`.
void write_output(std::FILE* out, std::string_view bytes, bool quiet = false);

/// The error of the first write that failed, with the number of those that did.
Result<void> output_written();

}  // namespace llmlaunch::trainer
