/// \file
/// When do two hosts fail for one reason? Texts of errors have the host's own name and address in them; without those
/// they are compared, so that a rack that is down is one line and not forty.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::launcher {

/// `text` without what is the host's own: its name, addresses with their ports, the number of attempts; and in quoted
/// output ("   | …") all numbers, as line numbers of scripts. Equal for equal reasons; not for people.
std::string reason_key(std::string_view text, std::string_view host);

/// The text of the first of several hosts, with a remark when those of the others have other words in their places.
std::string reason_of_many(const std::string& first_text, std::string_view first_host,
                           const std::vector<std::string>& texts);

/// The same for its hint, which needs no remark where the text has one.
std::string hint_of_many(const std::string& first_hint, std::string_view first_host,
                         const std::vector<std::string>& hints, const std::vector<std::string>& texts);

}  // namespace llmlaunch::launcher
