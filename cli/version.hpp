/// \file
/// `llmlaunch version`: what a report of a fault should say about this build.
#pragma once

#include <string>

namespace llmlaunch::cli {

/// The version on the first line, as --version prints it; then protocols, libraries and the trainer's backends.
std::string version_text();

}  // namespace llmlaunch::cli
