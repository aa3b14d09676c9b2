// `llmlaunch config` without questions, and what becomes of the answers. The dialogue is wizard_dialogue.cpp's.
#include "cli/wizard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "cli/survey.hpp"
#include "cli/wizard_file.hpp"
#include "cli/wizard_import.hpp"
#include "launcher/config_answers.hpp"
#include "launcher/config_text.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::HostSurvey;

constexpr const char* kComment = "Written by llmlaunch config. A job: llmlaunch run --config THIS_FILE PROGRAM";

}  // namespace

Result<GivenAnswers> given_answers(const WizardOptions& options) {
  GivenAnswers given;
  if (options.answers_file) {
    auto text = read_whole_file(*options.answers_file);
    if (!text) return text.error();
    auto answers = launcher::parse_answers(*text, *options.answers_file);
    if (!answers) return answers.error();
    for (auto& one : *answers) {
      const auto& keys = question_keys();
      if (std::find(keys.begin(), keys.end(), one.name) == keys.end()) {
        const auto meant = nearest(one.name, keys);
        return make_error(Errc::invalid_config, fmt::format("there is no question '{}'", one.name), one.where,
                          meant.empty() ? fmt::format("the questions are: {}", fmt::join(keys, ", "))
                                        : fmt::format("did you mean '{}'?", meant));
      }
      given.insert_or_assign(one.name, GivenAnswer{one.value, one.where + ": " + one.name, true});
    }
  }
  for (const auto& [key, text] : options.answers) {
    std::string flag = "--" + key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    given.insert_or_assign(key, GivenAnswer{text, flag});
  }
  return given;
}

Error at_answer(const Error& error, const GivenAnswer& given) {
  return make_error(given.from_file ? Errc::invalid_config : Errc::usage, given.where + ": " + error.what, {},
                    error.hint);
}

namespace {

/// Hosts that did not answer, for someone who is not there to be asked.
Result<void> require_all(const std::vector<HostSurvey>& survey, bool keep) {
  std::vector<HostSurvey> failed;
  std::copy_if(survey.begin(), survey.end(), std::back_inserter(failed),
               [](const HostSurvey& one) { return one.failure.has_value(); });
  if (failed.empty()) return ok;
  std::string list = launcher::survey_table(failed, 0);
  while (list.ends_with('\n')) list.pop_back();
  if (keep) {
    log_warning("{}", list);
    return ok;
  }
  return make_error(Errc::unreachable,
                    fmt::format("{} of {} hosts cannot be used\n{}", failed.size(), survey.size(), list), {},
                    "nothing is written; --keep-unreachable writes them all the same, --no-probe asks none");
}

/// What would have been proposed, but for what was given.
Result<launcher::Config> config_without_questions(WizardCore core, const GivenAnswers& given,
                                                  const WizardOptions& options) {
  for (const std::string_view key : question_keys()) {
    if (key == kFirstAfterStart && !options.no_probe) {
      if (!core.hosts().empty())
        log_info("asking {} host{} what they are", core.hosts().size(), core.hosts().size() == 1 ? "" : "s");
      auto survey = survey_for(core, nullptr, options.accept_new_host_keys);
      if (!survey) return survey.error();
      if (auto reached = require_all(*survey, options.keep_unreachable); !reached) return reached.error();
      core.set_survey(std::move(*survey));
    }
    const auto found = given.find(key);
    if (!core.applies(key)) continue;
    const std::string text = found == given.end() ? core.question(key).fallback : found->second.text;
    if (auto taken = core.answer(key, text); !taken && found == given.end())
      return taken.error();
    else if (!taken)
      return at_answer(taken.error(), found->second);
  }
  log_info("{}", core.summary());
  return core.config();
}

int write_draft(const Draft& draft) {
  if (auto written = write_whole_file(draft.path, draft.text, draft.overwrite, true); !written)
    return fail(written.error());
  if (draft.path != "-") log_info("written: {}; a job: llmlaunch run --config {} PROGRAM", draft.path, draft.path);
  return number(ExitStatus::done);
}

/// accelerate's default file, where `run` looks for it as well.
std::string default_output() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  std::string cache = variable("HF_HOME");
  if (cache.empty()) {
    const std::string above = variable("XDG_CACHE_HOME");
    cache = (above.empty() ? std::string("~/.cache") : above) + "/huggingface";
  }
  return expand_home(cache) + "/accelerate/default_config.yaml";
}

Result<WizardCore> new_core() {
  auto head = head_facts();
  if (!head) return head.error();
  head->environment.erase(std::remove_if(head->environment.begin(), head->environment.end(),
                                         [](const auto& entry) { return entry.first == "WCOLL"; }),
                          head->environment.end());
  return WizardCore(host_world(head->environment));
}

int without_questions(const WizardOptions& options, const GivenAnswers& given, WizardCore core) {
  Draft draft;
  draft.path = options.mode == WizardOptions::Mode::defaults && !options.output ? default_output() : output_of(options);
  draft.overwrite = options.force;
  if (!draft.overwrite && file_exists(draft.path))  // before anybody is waited for
    return fail(write_whole_file(draft.path, "", false, false).error());
  auto config = config_without_questions(std::move(core), given, options);
  if (!config) return fail(config.error());
  auto text = checked_text(*config, draft.path);
  if (!text) return fail(text.error());
  draft.text = std::move(*text);
  return write_draft(draft);
}

}  // namespace

std::string output_of(const WizardOptions& options) {
  return options.output ? expand_home(*options.output) : "llmlaunch.yaml";
}

Result<launcher::Config> read_text_alone(const std::string& text, const std::string& path) {
  auto head = head_facts();
  if (!head) return head.error();
  return launcher::load_config(text, {path, {}, std::move(head->environment), {}, false});
}

Result<void> check_text(const std::string& text, const std::string& path) {
  const auto config = read_text_alone(text, path == "-" ? "llmlaunch.yaml" : path);
  if (!config) return config.error();
  auto head = head_facts();
  if (!head) return head.error();
  auto plan = launcher::make_plan(*config, {{"true"}, {}}, *head);
  return plan ? Result<void>(ok) : Result<void>(plan.error());
}

Result<std::string> checked_text(const launcher::Config& config, const std::string& path) {
  std::string text = launcher::config_text(config, kComment);
  if (auto checked = check_text(text, path); !checked) return checked.error();
  return text;
}

Result<std::vector<HostSurvey>> survey_for(const WizardCore& core, launcher::HostKeyDesk* desk, bool accept_new) {
  launcher::Config config = core.config();
  if (accept_new) config.ssh.host_key_policy = launcher::HostKeyPolicy::accept_new;
  return survey_hosts(config, {Verbosity::quiet, true, false, desk});
}

int wizard_command(const WizardOptions& options) {
  using Mode = WizardOptions::Mode;
  set_log_level(options.quiet ? LogLevel::warning : LogLevel::info);
  if (options.mode == Mode::update) return update_command(options);
  const auto given = given_answers(options);
  if (!given) return fail(given.error());
  if (options.mode == Mode::import) return import_command(options, *given);
  auto core = new_core();
  if (!core) return fail(core.error());
  if (options.mode == Mode::defaults || options.non_interactive)
    return without_questions(options, *given, std::move(*core));
  auto draft = hold_dialogue(std::move(*core), *given, options);
  if (!draft) return fail(draft.error());
  return write_draft(*draft);
}

}  // namespace llmlaunch::cli
