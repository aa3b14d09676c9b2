/// \file
/// The facts that hosts are compared by, each as a short text. Private to the reports of a survey.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/survey.hpp"

namespace llmlaunch::launcher {

struct Fact {
  std::string_view name;  ///< for people
  std::string_view key;   ///< in JSON
  std::string value;      ///< "-" when the host does not say
};

/// The same facts in the same order for every host.
std::vector<Fact> facts_of(const HostFacts& facts);

/// "eth0 25 Gb/s": those that are up and lead out of the machine.
std::string interfaces_in_words(const HostFacts& facts);

}  // namespace llmlaunch::launcher
