// The wizard's conversation: questions in their order, the survey beside them, what is done about hosts that failed,
// and a last look at what will be written.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "cli/head.hpp"
#include "cli/run.hpp"
#include "cli/survey.hpp"
#include "cli/wizard.hpp"
#include "cli/wizard_file.hpp"
#include "cli/wizard_import.hpp"
#include "cli/wizard_signals.hpp"
#include "cli/wizard_terminal.hpp"
#include "launcher/hostlist.hpp"
#include "launcher/key_install.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/signal_code.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::HostSurvey;

/// By a signal, or by the end of input (Ctrl-D), which counts as Ctrl-C.
Error ended() {
  const int signal = caught_signal();
  return {signal_code(signal == 0 ? SIGINT : signal), "nothing was written", {}, {}};
}

Question yes_no(std::string text, std::string help, bool fallback) {
  return {"", std::move(text), std::move(help), {{"yes", ""}, {"no", ""}}, false, fallback ? "yes" : "no", ""};
}

class Dialogue {
 public:
  Dialogue(WizardCore core, const GivenAnswers& given, const WizardOptions& options, PromptTerminal terminal)
      : core_(std::move(core)), given_(given), options_(options), terminal_(std::move(terminal)) {}

  Result<Draft> hold();

 private:
  enum class Next { forth, back };
  Result<Next> ask_one(std::string_view key);
  Result<Next> settle_survey();
  Result<void> survey();
  Result<bool> is_yes(const Question& question);
  Result<bool> offer_host_keys();
  Result<bool> offer_key_install();
  Result<std::string> choose_what_now(std::size_t failed);
  Result<Draft> finish(bool& back);
  Result<void> start_survey();
  Probe* background() { return probe_.running() ? &probe_ : nullptr; }

  WizardCore core_;
  const GivenAnswers& given_;
  const WizardOptions& options_;
  PromptTerminal terminal_;
  NotedSignals signals_;
  Probe probe_;
  launcher::HostKeyDesk desk_;
  bool keys_declined_ = false;
  bool install_declined_ = false;
};

Result<void> Dialogue::start_survey() {
  desk_.met.clear();
  auto probe = Probe::start([this] { return survey_for(core_, &desk_, options_.accept_new_host_keys); }, false);
  if (!probe) return probe.error();
  probe_ = std::move(*probe);
  return ok;
}

Result<void> Dialogue::survey() {
  if (!probe_.running())
    if (auto started = start_survey(); !started) return started;
  auto hosts = probe_.result();
  if (!hosts) return hosts.error();
  core_.set_survey(std::move(*hosts));
  return ok;
}

Result<bool> Dialogue::is_yes(const Question& question) {
  const Reply reply = terminal_.ask(question, background());
  if (reply.kind == Reply::Kind::back) return false;
  if (reply.kind != Reply::Kind::text) return ended();
  return reply.text == "yes";
}

// True: something was changed, ask the hosts again.
Result<bool> Dialogue::offer_host_keys() {
  std::string list;
  for (const HostSurvey& host : core_.survey())
    if (!host.unknown_key.empty()) list += fmt::format("  {:<20} {}\n", host.name, host.unknown_key);
  if (list.empty() || keys_declined_) return false;
  terminal_.say("\nThese hosts show keys that no known_hosts file has:\n" + list);
  const auto yes = is_yes(yes_no("Are these their keys? They are recorded then",
                                 "Compare the fingerprints with those of the hosts themselves: ssh-keygen -lf "
                                 "/etc/ssh/ssh_host_ed25519_key.pub\nA host that shows another key than this one when "
                                 "it is asked again is refused.",
                                 false));
  if (!yes) return yes.error();
  keys_declined_ = !*yes;
  for (const HostSurvey& host : core_.survey())
    if (*yes && !host.unknown_key.empty()) desk_.accepted[host.name] = host.unknown_key;
  return *yes;
}

Result<bool> Dialogue::offer_key_install() {
  launcher::Config config = core_.config();
  std::erase_if(config.hosts, [this](const launcher::HostConfig& host) {
    return std::none_of(core_.survey().begin(), core_.survey().end(), [&](const HostSurvey& one) {
      return one.name == host.name && one.failure && one.failure->code == Errc::unauthenticated;
    });
  });
  if (config.hosts.empty() || install_declined_) return false;
  const auto key = own_key_for(config);
  if (!key) return key.error();
  if (key->line.empty()) {
    terminal_.say("\nThere is no key of yours to install: ssh-keygen -t ed25519 makes one.\n");
    return false;
  }
  std::vector<std::string> names;
  for (const auto& host : config.hosts) names.push_back(host.name);
  const auto yes = is_yes(
      yes_no(fmt::format("Install {} on {} with your password there?", key->name, launcher::compress_hostlist(names)),
             "You are asked for the password once; it is for all of these hosts. The public key is "
             "added to\n~/.ssh/authorized_keys on each of them, as ssh-copy-id does.",
             false));
  if (!yes) return yes.error();
  install_declined_ = true;  // one try: the reasons are shown, and "again" asks the hosts again
  if (!*yes) return false;
  auto work = Probe::start([&] { return install_key_on(config, key->line, &desk_); }, true);
  if (!work) return work.error();
  auto hosts = work->result();
  if (!hosts) return signal_of(hosts.error().code) != 0 ? ended() : hosts.error();
  for (const HostSurvey& one : *hosts)
    terminal_.say(one.failure ? fmt::format("{}: {}\n", one.name, one.failure->what)
                              : fmt::format("{}: the key is installed\n", one.name));
  return true;
}

Result<std::string> Dialogue::choose_what_now(std::size_t failed) {
  Question question{"",
                    fmt::format("{} of {} hosts cannot be used", failed, core_.survey().size()),
                    "again asks all hosts once more. out leaves these hosts out of the file; keep writes them as they "
                    "are.",
                    {{"again", "when the cause is removed"},
                     {"out", "leave them out"},
                     {"keep", "write them all the same"},
                     {"back", "change the hosts, or how they are reached"}},
                    false,
                    "again",
                    ""};
  if (failed == core_.survey().size()) question.choices.erase(question.choices.begin() + 1);
  const Reply reply = terminal_.ask(question, nullptr);
  if (reply.kind == Reply::Kind::back) return std::string("back");
  if (reply.kind != Reply::Kind::text) return ended();
  return reply.text;
}

Result<Dialogue::Next> Dialogue::settle_survey() {
  const std::size_t count = core_.hosts().size();
  terminal_.say(count == 0 ? "\nLooking at this machine …\n"
                           : fmt::format("\nAsking {} host{} what they are …\n", count, count == 1 ? "" : "s"));
  for (;;) {
    if (auto done = survey(); !done) return done.error();
    const auto& hosts = core_.survey();
    const bool alone = count == 0 && hosts.size() == 1 && hosts.front().facts;
    terminal_.say("\n" + (alone ? launcher::survey_list(*hosts.front().facts)
                                : launcher::survey_table(hosts, terminal_.width())));
    const auto failed = static_cast<std::size_t>(
        std::count_if(hosts.begin(), hosts.end(), [](const HostSurvey& one) { return one.failure.has_value(); }));
    if (failed == 0) return Next::forth;
    auto changed = offer_host_keys();
    if (changed && !*changed) changed = offer_key_install();
    if (!changed) return changed.error();
    if (*changed) continue;
    const auto now = choose_what_now(failed);
    if (!now) return now.error();
    if (*now == "back") return Next::back;
    if (*now == "out") core_.leave_out_failed();
    if (*now != "again") return Next::forth;
    keys_declined_ = install_declined_ = false;
  }
}

Result<Dialogue::Next> Dialogue::ask_one(std::string_view key) {
  const auto found = given_.find(key);
  if (found != given_.end()) {
    auto taken = core_.answer(key, found->second.text);
    if (taken) return Next::forth;
    terminal_.say(fmt::format("\n{}: {}\n", found->second.where, taken.error().what));
  }
  for (;;) {
    const Reply reply = terminal_.ask(core_.question(key), background());
    if (reply.kind == Reply::Kind::back) return Next::back;
    if (reply.kind != Reply::Kind::text) return ended();
    auto taken = core_.answer(key, reply.text);
    if (taken) return Next::forth;
    terminal_.say(taken.error().what + (taken.error().hint.empty() ? "" : "\n" + taken.error().hint) + "\n");
  }
}

// The last look. `back`: to the question before.
Result<Draft> Dialogue::finish(bool& back) {
  Draft draft;
  draft.path = output_of(options_);
  for (;;) {
    if (!options_.output) {
      const Question where{"", "Write to", "The file of the configuration.", {}, false, draft.path, ""};
      const Reply reply = terminal_.ask(where, nullptr);
      back = reply.kind == Reply::Kind::back;
      if (back) return draft;
      if (reply.kind != Reply::Kind::text) return ended();
      draft.path = expand_home(reply.text);
    }
    auto text = checked_text(core_.config(), draft.path);
    if (!text) return text.error();
    draft.text = std::move(*text);
    terminal_.say(fmt::format("\n{}\n\n{}", core_.summary(), draft.text));
    const bool there = file_exists(draft.path) && !options_.force;
    const auto yes =
        is_yes(there ? yes_no(draft.path + " is there already. Overwrite it?", "What is in it now is lost.", false)
                     : yes_no("Write " + draft.path + "?", "Nothing is written before this yes.", true));
    if (!yes) return yes.error();
    draft.overwrite = options_.force || there;
    back = !*yes && (options_.output || !there);
    if (*yes || back) return draft;  // else another name
  }
}

Result<Draft> Dialogue::hold() {
  const auto& keys = question_keys();
  const auto place = [&keys](std::string_view key) {
    return static_cast<std::size_t>(std::find(keys.begin(), keys.end(), key) - keys.begin());
  };
  const std::size_t start = place(kFirstAfterStart), known = place(kFirstAfterSurvey);
  std::vector<std::size_t> asked;  // those that "back" goes to
  for (std::size_t i = 0;;) {
    bool back = false;
    if (i == start && !options_.no_probe && core_.survey().empty() && !probe_.running())
      if (auto started = start_survey(); !started) return started.error();
    if (i == known && !options_.no_probe && core_.survey().empty()) {
      const auto next = settle_survey();
      if (!next) return next.error();
      if (*next == Next::back) {
        core_.set_survey({});
        i = 0;
        asked.clear();
        continue;
      }
    }
    if (i == keys.size()) {
      auto draft = finish(back);
      if (!draft || !back) return draft;
    } else if (core_.applies(keys[i])) {
      const auto next = ask_one(keys[i]);
      if (!next) return next.error();
      back = *next == Next::back;
      if (!back && given_.find(keys[i]) == given_.end()) asked.push_back(i);
    }
    if (!back) {
      ++i;
      continue;
    }
    if (asked.empty()) {
      terminal_.say("There is no question before this one.\n");
      continue;
    }
    i = asked.back();
    asked.pop_back();
    if (i >= start) continue;
    probe_.cancel();  // who is asked, or how, may change
    core_.set_survey({});
  }
}

}  // namespace

Result<Draft> hold_dialogue(WizardCore core, const GivenAnswers& given, const WizardOptions& options) {
  auto terminal = PromptTerminal::open();
  if (!terminal) return terminal.error();
  return Dialogue(std::move(core), given, options, std::move(*terminal)).hold();
}

}  // namespace llmlaunch::cli
