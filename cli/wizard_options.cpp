// `llmlaunch config`: an option for each question of the wizard.
#include "cli/wizard_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

#include "cli/option_values.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

constexpr const char* kWizardFooter =
    "Without options it asks at the terminal, and proposes what it found on the hosts; '?' explains a question, "
    "'back'\n"
    "goes to the one before. An option answers the question of its name, and so does a line of the file of --answers\n"
    "(hosts: gpu[01-16]). With --non-interactive the rest gets what would have been proposed.\n"
    "config default writes accelerate's default file for this machine; config update adds what a file lacks; config\n"
    "import reads files of accelerate, DeepSpeed (hostfile and .deepspeed_env), MPI, Slurm, PBS, LSF, pdsh and "
    "genders.";

class ConfigHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch config [OPTIONS]\n       llmlaunch config default [OPTIONS]\n"
           "       llmlaunch config update FILE [OPTIONS]\n       llmlaunch config import FILE… [--from FORMAT] "
           "[OPTIONS]\n       llmlaunch config check [FILE]\n       llmlaunch config --schema\n";
  }
};

struct AnswerOption {
  const char* flag;
  const char* key;
  const char* type;
  const char* help;
};
constexpr std::array kAnswers{
    AnswerOption{"-w,--hosts", "hosts", "LIST", "Hosts: gpu[01-16], or ^FILE; '' for this machine alone"},
    AnswerOption{"-l,--user", "user", "NAME", "User on the hosts"},
    AnswerOption{"--port", "port", "N", "Port of their sshd"},
    AnswerOption{"-i,--identity-file", "identity_file", "FILE", "Key to sign in with"},
    AnswerOption{"--workdir", "workdir", "DIR", "Where the ranks start"},
    AnswerOption{"--setup", "setup", "LINES", "Lines of shell before the ranks, with ; between"},
    AnswerOption{"--forward-env", "forward_env", "NAMES", "Variables to pass on: HF_TOKEN,WANDB_*"},
    AnswerOption{"--log-dir", "log_dir", "DIR", "Where each run makes its directory"},
    AnswerOption{"--slots", "slots", "N", "Ranks on each host: auto, 8, or gpu[01-07]=8 gpu08=4"},
    AnswerOption{"--main-process-ip", "main_process_ip", "IP", "Address of this machine for the ranks, or auto"},
    AnswerOption{"--interface", "interface", "NAME", "For NCCL and Gloo: auto, route (to this machine), or a name"},
    AnswerOption{"--mixed-precision", "mixed_precision", "no|fp16|bf16|fp8", "Mixed precision"}};

constexpr std::array<std::string_view, 9> kFormats{"accelerate", "deepspeed", "openmpi", "mpich",  "pbs",
                                                   "lsf",        "slurm",     "pdsh",    "genders"};

}  // namespace

void WizardParser::add_to(CLI::App& config) {
  app = &config;
  app->formatter(std::make_shared<ConfigHelp>());
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kWizardFooter);
  for (const auto& [flag, key, type, help] : kAnswers) add_value(*app, flag, answers_[key], type, help);
  add_value(*app, "--hostfile", hostfile_, "FILE", "Hosts and slots from a file of another tool: as --hosts ^FILE");
  add_value(*app, "--answers", values_.answers_file, "FILE", "Answers by the names of the questions, as YAML");
  add_value(*app, "-o,--output", values_.output, "FILE", "What is written; - for stdout (default: llmlaunch.yaml)");
  add_value(*app, "--from", values_.from, "FORMAT", "How the files of import are written; default: seen from them");
  app->add_flag("-y,--non-interactive", values_.non_interactive, "Ask nothing; take what would be proposed");
  app->add_flag("--force", values_.force, "Overwrite the file when it is there");
  app->add_flag("--accept-new-host-keys", values_.accept_new_host_keys, "Trust and record host keys not yet known");
  app->add_flag("--keep-unreachable", values_.keep_unreachable, "Write hosts that do not answer, too");
  app->add_flag("--no-probe", values_.no_probe, "Contact no host");
  app->add_flag("-q,--quiet", values_.quiet, "Say nothing but warnings and errors");
}

Result<void> WizardParser::take_mode(const std::vector<std::string>& words) {
  using Mode = WizardOptions::Mode;
  if (words.empty()) return ok;
  constexpr std::array<std::string_view, 3> kModes{"default", "update", "import"};
  const auto mode = std::find(kModes.begin(), kModes.end(), words.front());
  if (mode == kModes.end()) {
    constexpr std::array<std::string_view, 4> kWords{"default", "update", "import", "check"};
    const auto meant = nearest(words.front(), kWords);
    return usage(fmt::format("config: unknown word '{}'", words.front()),
                 meant.empty() ? lists_options(*app) : fmt::format("did you mean '{}'?", meant));
  }
  values_.mode = *mode == "default" ? Mode::defaults : *mode == "update" ? Mode::update : Mode::import;
  values_.files.assign(words.begin() + 1, words.end());
  if (values_.mode == Mode::defaults && !values_.files.empty())
    return usage(fmt::format("config default takes no file: '{}'", values_.files.front()),
                 "-o FILE names what is written");
  if (values_.mode == Mode::update && values_.files.size() != 1)
    return usage("config update takes one file", "llmlaunch config update FILE");
  if (values_.mode == Mode::import && values_.files.empty() && values_.from != "slurm" && values_.from != "pbs" &&
      values_.from != "lsf")
    return usage("config import: no file given",
                 "llmlaunch config import FILE…; --from slurm, pbs or lsf alone means this allocation");
  return ok;
}

/// Nothing that was typed is passed over: update changes no value, and neither update nor import signs in anew.
Result<void> WizardParser::check_mode_options() const {
  using Mode = WizardOptions::Mode;
  std::vector<std::string> unused;
  if (values_.mode == Mode::update) {
    for (const auto& row : kAnswers) unused.push_back(std::string(row.flag).substr(std::string(row.flag).find("--")));
    unused.insert(unused.end(), {"--hostfile", "--answers"});
  }
  if (values_.mode == Mode::update || values_.mode == Mode::import)
    unused.insert(unused.end(), {"--accept-new-host-keys", "--keep-unreachable"});
  for (const std::string& flag : unused) {
    if (app->count(flag) == 0) continue;
    if (values_.mode == Mode::update)
      return usage(fmt::format("config update takes no {}", flag),
                   "it adds what the file lacks and changes nothing: edit the file, or let config write a new one");
    return usage(fmt::format("config import takes no {}", flag), "it contacts no host");
  }
  return ok;
}

Result<Options> WizardParser::options(const std::vector<std::string>& words) {
  const std::string hint = lists_options(*app);
  if (auto taken = take_mode(words); !taken) return taken.error();
  if (auto checked = check_mode_options(); !checked) return checked.error();
  for (const auto& [flag, key, type, help] : kAnswers) {
    const std::string name = std::string(flag).substr(std::string(flag).find("--"));
    if (app->count(name) > 0) values_.answers[key] = answers_[key];
  }
  if (app->count("--hostfile") > 0) {
    if (hostfile_.empty()) return usage("--hostfile is empty", hint);
    if (app->count("--hosts") > 0) return usage("--hosts and --hostfile exclude each other", hint);
    values_.answers["hosts"] = "^" + hostfile_;
  }
  for (const auto& [name, value] :
       {std::pair{"--answers", &values_.answers_file}, std::pair{"--output", &values_.output}})
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  const bool imports = values_.mode == WizardOptions::Mode::import;
  if (values_.from && !imports) return usage("--from goes with config import", hint);
  if (values_.from && *values_.from != "auto" &&
      std::find(kFormats.begin(), kFormats.end(), *values_.from) == kFormats.end()) {
    const auto meant = nearest(*values_.from, kFormats);
    return usage(fmt::format("--from: '{}' is no format that can be imported", *values_.from),
                 meant.empty() ? hint : fmt::format("did you mean '{}'?", meant));
  }
  if (values_.no_probe && values_.accept_new_host_keys)
    return usage("--no-probe and --accept-new-host-keys exclude each other", hint);
  Options options;
  options.action = Options::Action::wizard;
  options.wizard = std::move(values_);
  return options;
}

}  // namespace llmlaunch::cli
