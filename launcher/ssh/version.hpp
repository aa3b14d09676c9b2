/// \file
/// Which libssh is loaded.
#pragma once

#include <string>

namespace llmlaunch::launcher::ssh {

/// "0.10.6".
std::string library_version();

}  // namespace llmlaunch::launcher::ssh
