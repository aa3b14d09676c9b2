// `config import`: files of other launchers → one of ours. An accelerate file stays as it is, and what the others say
// stands below `llmlaunch:` behind it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/report.hpp"
#include "cli/wizard.hpp"
#include "cli/wizard_file.hpp"
#include "cli/wizard_import.hpp"
#include "launcher/config_text.hpp"
#include "launcher/genders.hpp"
#include "launcher/hostfile.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;

enum class Kind { accelerate, deepspeed_env, genders, hosts };

bool ends_in(const std::string& path, std::string_view end) {
  return path.ends_with(end);
}

/// By --from, else by the file's name, else by its words.
Kind kind_of(const std::string& path, const std::string& text, const std::optional<std::string>& from) {
  if (ends_in(path, ".deepspeed_env")) return Kind::deepspeed_env;
  const bool yaml = ends_in(path, ".yaml") || ends_in(path, ".yml") || ends_in(path, ".json");
  if (yaml || (from && *from == "accelerate")) return Kind::accelerate;
  if (from && *from != "auto") return *from == "genders" ? Kind::genders : Kind::hosts;
  if (text.find("compute_environment:") != text.npos) return Kind::accelerate;
  return launcher::looks_like_genders(text) ? Kind::genders : Kind::hosts;
}

class Import {
 public:
  Import(const WizardOptions& options, const GivenAnswers& given, HostWorld world)
      : options_(options), given_(given), world_(std::move(world)) {}

  Result<void> take(const std::string& path) {
    if (path == "-") return take_hosts(path);
    auto text = read_whole_file(path);
    if (!text) return text.error();
    switch (kind_of(path, *text, options_.from)) {
      case Kind::accelerate: return take_accelerate(path, std::move(*text));
      case Kind::deepspeed_env: return import_deepspeed_env(*text, path, config_, notes_);
      case Kind::genders: return take_genders(path, *text);
      case Kind::hosts: return take_hosts(path);
    }
    return ok;
  }

  /// Hosts of a file, or without one those of the batch system's allocation.
  Result<void> take_hosts(const std::optional<std::string>& path) {
    HostWords words;
    if (path) words.hostfiles.push_back(*path);
    if (options_.from && *options_.from != "accelerate" && *options_.from != "genders") words.from = options_.from;
    auto choice = choose_hosts(Config{}, words, world_, "import");
    if (!choice) return choice.error();
    if (auto once = check_named_once(choice->hosts); !once) return once;
    if (choice->hosts.empty()) return make_error(Errc::invalid_config, "there is no host in it", path.value_or(""));
    for (auto& note : choice->notes) notes_.push_back(std::move(note));
    return add_hosts(std::move(choice->hosts), path.value_or("the allocation"));
  }

  Result<std::string> text(const std::string& path);
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Result<void> take_accelerate(const std::string& path, std::string text) {
    if (!accelerate_.empty())
      return make_error(Errc::usage, fmt::format("{} and {} are both files of accelerate", accelerate_name_, path), {},
                        "one file serves all hosts: import one of them");
    auto parsed = read_text_alone(text, path);
    if (!parsed) return parsed.error();
    for (auto& note : ignored_by_accelerate(*parsed, text)) notes_.push_back(std::move(note));
    for (auto& note : parsed->notes) notes_.push_back(std::move(note));
    file_ = std::move(*parsed);
    accelerate_ = std::move(text);
    accelerate_name_ = path;
    return ok;
  }

  Result<void> take_genders(const std::string& path, const std::string& text) {
    auto genders = launcher::parse_genders(text, path);
    if (!genders) return genders.error();
    config_.groups.insert(genders->groups.begin(), genders->groups.end());
    return add_hosts(std::move(genders->hosts), path);
  }

  Result<void> add_hosts(std::vector<launcher::HostConfig> hosts, const std::string& from) {
    if (!config_.hosts.empty())
      return make_error(Errc::usage, fmt::format("{} names hosts, and so does {}", from, hosts_from_), {},
                        "import one list of hosts");
    for (auto& host : hosts) host.where.clear();
    config_.hosts = std::move(hosts);
    hosts_from_ = from;
    return ok;
  }

  Result<void> take_answers();
  Result<void> take_answer(WizardCore& core, const std::string& key, const std::string& text);
  void lay_over(const Config& said, std::string_view key);

  const WizardOptions& options_;
  const GivenAnswers& given_;
  HostWorld world_;
  Config config_;  // what stands below llmlaunch:
  Config file_;    // of accelerate
  std::string accelerate_, accelerate_name_, hosts_from_;
  std::vector<std::string> notes_;
};

/// What was answered beside the files, by the wizard's own rules.
Result<void> Import::take_answers() {
  WizardCore core(world_);
  core.set_hosts(config_.hosts);
  for (const std::string_view key : question_keys()) {  // hosts first
    const auto found = given_.find(key);
    if (found == given_.end()) continue;
    if (auto taken = take_answer(core, std::string(key), found->second.text); !taken)
      return at_answer(taken.error(), found->second);
    lay_over(core.config(), key);
  }
  return ok;
}

Result<void> Import::take_answer(WizardCore& core, const std::string& key, const std::string& text) {
  const bool accelerates = key == "mixed_precision" || key == "main_process_ip";
  if (accelerates && !accelerate_.empty())
    return make_error(Errc::usage, fmt::format("{} stays as it is, also its {}", accelerate_name_, key), {},
                      "change it in the file that is written");
  if (!core.applies(key) || (key == "slots" && core.hosts().empty()))
    return make_error(Errc::usage, core.hosts().empty() ? "there are no hosts that it could be for"
                                                        : "it is for several hosts, and there is one");
  if (auto taken = core.answer(key, text); !taken) return taken;
  return key == "hosts" ? add_hosts(core.hosts(), "--hosts") : Result<void>(ok);
}

void Import::lay_over(const Config& said, std::string_view key) {
  if (key == "user") config_.ssh.user = said.ssh.user;
  if (key == "port") config_.ssh.port = said.ssh.port;
  if (key == "identity_file") config_.ssh.identity_files = said.ssh.identity_files;
  if (key == "workdir") config_.workdir = said.workdir;
  if (key == "setup") config_.process.setup = said.process.setup;
  if (key == "forward_env")
    config_.forward_env.insert(config_.forward_env.end(), said.forward_env.begin(), said.forward_env.end());
  if (key == "log_dir") config_.log_dir = said.log_dir;
  if (key == "main_process_ip") config_.main_process_ip = said.main_process_ip;
  if (key == "mixed_precision") config_.mixed_precision = said.mixed_precision;
  for (const auto& entry : key == "interface" ? said.env : launcher::EnvList{}) {
    std::erase_if(config_.env, [&entry](const auto& old) { return old.first == entry.first; });
    config_.env.push_back(entry);
  }
  if (key != "slots" || given_.find(key)->second.text == "auto") return;
  for (std::size_t i = 0; i < config_.hosts.size(); ++i) config_.hosts[i].slots = said.hosts[i].slots;
}

Result<std::string> Import::text(const std::string& path) {
  if (auto taken = take_answers(); !taken) return taken.error();
  const bool slots =
      std::all_of(config_.hosts.begin(), config_.hosts.end(), [](const auto& host) { return host.slots.has_value(); });
  if (!accelerate_.empty()) {
    std::string text = accelerate_;
    if (!text.empty() && text.back() != '\n') text += '\n';
    const std::string section = launcher::llmlaunch_section(config_);
    if (!section.empty() && file_.places.contains("llmlaunch"))
      return make_error(Errc::usage, "it has 'llmlaunch:' already", accelerate_name_, "import it without other files");
    if (!section.empty()) text += "\n" + section;
    if (auto checked = check_text(text, path); !checked) {
      Error error = checked.error();
      if (error.hint.empty()) error.hint = "the files that were given do not agree: change one of them";
      return error;
    }
    return text;
  }
  std::uint32_t ranks = 0;
  for (auto& host : config_.hosts) {
    if (!slots && !host.slots) host.slots = 1;
    ranks += host.slots.value_or(1);
  }
  if (!slots && !config_.hosts.empty())
    notes_.push_back(fmt::format("{} does not say how many ranks a host has: one each is written", hosts_from_));
  config_.num_machines = static_cast<std::uint32_t>(std::max<std::size_t>(1, config_.hosts.size()));
  config_.num_processes = std::max<std::uint32_t>(1, ranks);
  config_.distributed_type = *config_.num_processes == 1 ? "NO" : "MULTI_GPU";
  return checked_text(config_, path);
}

}  // namespace

int import_command(const WizardOptions& options, const GivenAnswers& given) {
  auto head = head_facts();
  if (!head) return fail(head.error());
  Import import(options, given, host_world(head->environment));
  for (const std::string& path : options.files)
    if (auto taken = import.take(path); !taken) return fail(taken.error());
  if (options.files.empty())
    if (auto taken = import.take_hosts(std::nullopt); !taken) return fail(taken.error());
  const std::string path = output_of(options);
  const auto text = import.text(path);
  if (!text) return fail(text.error());
  for (const std::string& note : import.notes()) log_warning("{}", printable(note));
  if (auto written = write_whole_file(path, *text, options.force, false); !written) return fail(written.error());
  if (path != "-") log_info("written: {}", path);
  return number(ExitStatus::done);
}

}  // namespace llmlaunch::cli
