/// \file
/// Writes the wizard's file: whole or not at all.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

bool file_exists(const std::string& path);

/// A file beside it is written and takes its name; missing directories are made when `make_directories`. `overwrite`
/// false: a file that is there stays as it is (`Errc::usage`). A new file has the mode that the umask gives; one that
/// is overwritten keeps its own. "-": stdout.
Result<void> write_whole_file(const std::string& path, const std::string& text, bool overwrite, bool make_directories);

}  // namespace llmlaunch::cli
