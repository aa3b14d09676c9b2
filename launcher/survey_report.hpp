/// \file
/// What a survey of several hosts came to, for people and for programs. Pure. Used by `llmlaunch env` and by the
/// wizard.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/survey.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// One of the two is set.
struct HostSurvey {
  std::string name;
  std::optional<HostFacts> facts;
  std::optional<Error> failure;
  std::string unknown_key;  ///< "ssh-ed25519 SHA256:…": why it failed; the host's key, which nobody has vouched for
};

/// Facts × hosts. Hosts that are the same in all of them share a column under their folded names; a fact in which the
/// columns differ has "≠" in front, and what differs from the most common value has one, too. Columns that do not fit
/// into `width` follow below. Hosts that were not reached come after that, each reason once.
std::string survey_table(const std::vector<HostSurvey>& hosts, std::size_t width);

/// One host's facts below each other, with the addresses of its interfaces.
std::string survey_list(const HostFacts& facts);

/// The facts that matter for a job, on one line: "8 × NVIDIA H100 80GB HBM3, driver 550.54, 128 cores, 2015 GiB, eth0".
std::string survey_line(const HostFacts& facts);

/// One object with a newline at its end: {"hosts": [{"host", "reached", "reason", …facts…}], "differences": [fact …]}.
std::string survey_json(const std::vector<HostSurvey>& hosts);

/// "8 × NVIDIA H100 80GB HBM3 (79 GiB)"; different ones with a "+" between them; "none".
std::string gpus_in_words(const std::vector<GpuFacts>& gpus);

}  // namespace llmlaunch::launcher
