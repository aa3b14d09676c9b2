/// \file
/// `llmlaunch config`, `config default`, `config update` and `config import`.
#pragma once

#include <optional>
#include <string>

#include "cli/options.hpp"
#include "cli/wizard_questions.hpp"
#include "launcher/config.hpp"
#include "launcher/host_keys.hpp"

namespace llmlaunch::cli {

/// Prints its own errors; returns the status to exit with.
int wizard_command(const WizardOptions& options);

// What the parts of the wizard share.

/// An answer that was given before any question, and where: "--slots", "answers.yaml:3:1".
struct GivenAnswer {
  std::string text, where;
  bool from_file = false;
};
using GivenAnswers = std::map<std::string, GivenAnswer, std::less<>>;
/// Those of the options and of --answers.
Result<GivenAnswers> given_answers(const WizardOptions& options);
/// An error of what was given, with its place: of usage, or of the file of answers.
Error at_answer(const Error& error, const GivenAnswer& given);

/// What is asked at the terminal; a signal's code when it was ended there (rendezvous/base/signal_code.hpp). The
/// configuration is checked, and what is to be written and where was confirmed.
struct Draft {
  std::string path, text;
  bool overwrite = false;
};
Result<Draft> hold_dialogue(WizardCore core, const GivenAnswers& given, const WizardOptions& options);

/// A configuration that `run` reads and can plan, as a text. Errors: `Errc::internal` when it is none.
Result<std::string> checked_text(const launcher::Config& config, const std::string& path);
/// The same of a text.
Result<void> check_text(const std::string& text, const std::string& path);
/// What a text at this path says by itself: ${VAR} and `include:` count, LLMLAUNCH_NUM_PROCESSES and the like do not.
Result<launcher::Config> read_text_alone(const std::string& text, const std::string& path);
std::string output_of(const WizardOptions& options);

/// The survey of what the wizard has so far.
Result<std::vector<launcher::HostSurvey>> survey_for(const WizardCore& core, launcher::HostKeyDesk* desk,
                                                     bool accept_new);

int import_command(const WizardOptions& options, const GivenAnswers& given);
int update_command(const WizardOptions& options);

}  // namespace llmlaunch::cli
