/// \file
/// What `config import` understands beside host files; and files read whole. Pure but for `read_whole_file`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// Errors: `Errc::invalid_config`, with the path.
Result<std::string> read_whole_file(const std::string& path);

/// Lines of .deepspeed_env: NAME=VALUE. Secrets are not taken over: their names go to `forward_env`, and a note says
/// so. Errors: `Errc::invalid_config` with file and line.
Result<void> import_deepspeed_env(const std::string& text, const std::string& name, launcher::Config& config,
                                  std::vector<std::string>& notes);

/// What accelerate's own launcher reads from a file and does not do, of the keys that this one has. `text` is
/// the file's: how a key is spelled there decides for some.
std::vector<std::string> ignored_by_accelerate(const launcher::Config& config, std::string_view text);

}  // namespace llmlaunch::cli
