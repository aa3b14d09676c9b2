/// \file
/// The wizard without its terminal: which questions there are, what each proposes, what an answer does. Pure: what
/// hosts say comes in as a survey, files are read through `HostWorld`.
///
///     hosts → user → port → identity_file ┆ workdir → setup → forward_env → log_dir ┆ slots → main_process_ip →
///     interface → mixed_precision           (the survey runs while these are asked) ┆ (these know what it found)
///
/// An answer of a question is a text, from the terminal, an option of the same name, or a file of answers.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/host_choice.hpp"
#include "launcher/config.hpp"
#include "launcher/survey_report.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

struct Choice {
  std::string answer;
  std::string text;  ///< beside it, for people
};

struct Question {
  std::string key;
  std::string text;
  std::string help;
  std::vector<Choice> choices;  ///< empty: a free text
  bool other = false;           ///< with choices: a text that is none of them may be an answer, too
  std::string fallback;         ///< the answer of an empty line; always a valid one
  std::string fallback_text;    ///< what stands in the brackets; empty: `fallback`
};

/// The names of all questions, in their order.
const std::vector<std::string_view>& question_keys();
/// The first one that wants the survey.
inline constexpr std::string_view kFirstAfterSurvey = "slots";
/// The first one that the survey does not need answered.
inline constexpr std::string_view kFirstAfterStart = "workdir";

class WizardCore {
 public:
  explicit WizardCore(HostWorld world) : world_(std::move(world)) {}

  /// Does the question arise, by what was answered before?
  bool applies(std::string_view key) const;
  Question question(std::string_view key) const;
  /// Errors (`Errc::invalid_argument`) say what was expected; nothing is changed then.
  Result<void> answer(std::string_view key, const std::string& given);

  /// As the answer of "hosts", for those that are known otherwise.
  void set_hosts(std::vector<launcher::HostConfig> hosts) { hosts_ = std::move(hosts); }

  void set_survey(std::vector<launcher::HostSurvey> survey) { survey_ = std::move(survey); }
  const std::vector<launcher::HostSurvey>& survey() const { return survey_; }
  /// The hosts that failed are no longer part of it.
  void leave_out_failed();

  /// What there is so far; enough to connect once everything before kFirstAfterStart is answered.
  launcher::Config config() const;
  const std::vector<launcher::HostConfig>& hosts() const { return hosts_; }
  /// "2 hosts × 8 = 16 ranks on GPUs, bf16"
  std::string summary() const;

 private:
  const launcher::HostFacts* facts_of(const std::string& host) const;
  std::uint32_t proposed_slots(const std::string& host) const;
  std::string proposed_slots_text() const;
  Result<std::vector<std::uint32_t>> parse_slots(const std::string& text) const;
  bool has_gpus() const;
  bool route_is_known() const;
  std::string route_text() const;
  std::string proposed_interface() const;
  std::vector<std::pair<std::string, std::uint64_t>> common_interfaces() const;
  std::vector<std::string> head_addresses() const;
  std::string proposed_precision() const;
  std::string value(std::string_view key) const;

  Question question_before_survey(std::string_view key) const;
  Question question_after_survey(std::string_view key) const;
  Result<void> check(std::string_view key, const std::string& text) const;

  HostWorld world_;
  std::vector<launcher::HostConfig> hosts_;
  std::vector<launcher::HostSurvey> survey_;
  std::map<std::string, std::string, std::less<>> answers_;
};

}  // namespace llmlaunch::cli
