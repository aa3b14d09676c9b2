/// \file
/// Which sources this program is made of. Its version number is that of many builds.
#pragma once

namespace llmlaunch::trainer {

/// 12 digits of a SHA-256 over the names and contents of the sources that are compiled and linked, and of what they
/// include of ours; comments count (source_digest.cmake).
const char* source_digest();

}  // namespace llmlaunch::trainer
