/// \file
/// Manual pages in roff (man(7)), one for llmlaunch and one for each command, from what the option parser knows.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command_tree.hpp"

namespace llmlaunch::cli {

/// The page of the root ("", "llmlaunch") or of one of its commands. Nothing for a name that is no command. `date` as
/// it is to stand in the page: "2026-11-24". ASCII alone.
std::optional<std::string> manual_page(const CommandText& root, std::string_view command, std::string_view date);

/// The pages that there are: "llmlaunch", "llmlaunch-run", …
std::vector<std::string> manual_page_names(const CommandText& root);

}  // namespace llmlaunch::cli
