/// \file
/// The patterns of ssh_config and known_hosts: "*" for any characters, "?" for one, "!" in front for "not this one".
#pragma once

#include <string>
#include <string_view>

namespace llmlaunch::launcher::ssh {

/// Does the whole text match? Letters must be the same; see lower_case.
bool matches_pattern(std::string_view text, std::string_view pattern);

/// The answer of a list "a*,!abc": a negated pattern that matches decides, wherever it stands.
enum class ListMatch { no, yes, excluded };
ListMatch match_list(std::string_view text, std::string_view patterns);

/// ASCII letters only, as host names have.
std::string lower_case(std::string_view text);

}  // namespace llmlaunch::launcher::ssh
