/// \file
/// Which sources this program is made of. Its version number is that of many builds.
#pragma once

namespace llmlaunch::trainer {

/// 12 digits of a SHA-256 over the trainer's sources, made when they are compiled (source_digest.cmake).
const char* source_digest();

}  // namespace llmlaunch::trainer
