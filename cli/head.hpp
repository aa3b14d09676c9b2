/// \file
/// What llmlaunch asks the machine it runs on: environment, directories, where its own programs are.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// Environment, current directory, and a new job id: "20261124-101530-4f2a" (local time, then chance).
Result<launcher::HeadFacts> head_facts();

/// What a host name comes to, as digits; nothing when nobody knows it. Blocks as long as the name service takes.
std::vector<std::string> addresses_of(const std::string& host);

inline constexpr const char* kAgentProgram = "llmlaunch-agent";

/// A program of llmlaunch's own: in $LLMLAUNCH_LIBEXEC when that is set, else beside this executable or in
/// ../libexec/llmlaunch from it. `Errc::not_found` names the places that were looked at.
Result<std::string> find_helper(const std::string& name);

/// accelerate's default file, when there is one.
std::optional<std::string> default_config();

/// LLMLAUNCH_JOIN_TOKEN, taken out of the environment: whatever is started inherits that, and the secret is for nobody
/// there. Nothing when it is not set, or empty. Called before anything is started.
std::optional<std::string> take_join_token();

/// "~" and "~/x" → below $HOME, or where that is not set, the home directory that the password file names. Everything
/// else as it is.
std::string expand_home(const std::string& path);

}  // namespace llmlaunch::cli
