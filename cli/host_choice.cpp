// Which hosts were meant. The order of asking: the words, else the configuration, else WCOLL; never this machine by
// itself.
#include "cli/host_choice.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <unordered_map>
#include <unordered_set>

#include "cli/head.hpp"
#include "launcher/accelerate_hosts.hpp"
#include "launcher/group_file.hpp"
#include "launcher/hostfile.hpp"
#include "launcher/hostlist.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;
using launcher::EnvList;
using launcher::HostConfig;
using launcher::HostfileFormat;

Result<std::string> read_all(int fd, const std::string& name) {
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "cannot read " + name);
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > launcher::kMaxHostfileBytes)
      return make_error(Errc::invalid_config, fmt::format("{} has more than {} bytes, which is no list of hosts", name,
                                                          launcher::kMaxHostfileBytes));
  }
}

Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(expand_home(path).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    Error error = system_error(errno, "cannot read the host file " + path);
    error.code = make_error_code(Errc::invalid_config);
    return error;
  }
  auto text = read_all(fd, path);
  ::close(fd);
  if (!text) {  // a directory, say
    Error error = text.error();
    error.code = make_error_code(Errc::invalid_config);
    return error;
  }
  return text;
}

std::string variable_in(const EnvList& environment, std::string_view name) {
  const auto found =
      std::find_if(environment.begin(), environment.end(), [&](const auto& one) { return one.first == name; });
  return found == environment.end() ? "" : found->second;
}

Error as_usage(Error error, std::string_view prefix) {
  if (error.code == Errc::invalid_argument) error.code = make_error_code(Errc::usage);
  if (!prefix.empty()) error.what = fmt::format("{}: {}", prefix, error.what);
  return error;
}

/// One choice while it is made.
class ChosenHosts {
 public:
  ChosenHosts(const Config& file, const HostWords& words, const HostWorld& world, launcher::HostSources sources)
      : file_(file), words_(words), world_(world), sources_(std::move(sources)), selector_(sources_) {
    for (const auto& host : file.hosts) known_.emplace(host.name, &host);
  }

  Result<HostChoice> make(const std::string& option);

 private:
  Result<void> take_words(const std::string& option);
  Result<void> take_file(const std::string& path, HostfileFormat format);
  Result<void> take_allocation(HostfileFormat format);
  Result<void> take_text(std::string_view text, const std::string& name, HostfileFormat format);
  Result<void> take_slurm();
  void note_excluded_in_vain();
  bool batch_format(HostfileFormat format) const;
  HostConfig merged(HostConfig host, std::string where) const;

  const Config& file_;
  const HostWords& words_;
  const HostWorld& world_;
  launcher::HostSources sources_;
  launcher::HostSelector selector_;
  std::unordered_map<std::string_view, const HostConfig*> known_;
  std::vector<HostConfig> from_files_;
  std::vector<std::string> included_;  // by words, before what is left out by option
  HostChoice choice_;
};

/// What expressions may refer to: hosts and groups of the configuration, and of the files that --groups names.
Result<launcher::HostSources> sources_of(const Config& file, const HostWords& words, const HostWorld& world) {
  launcher::HostSources sources = world.sources;
  for (const auto& host : file.hosts) sources.all.push_back(host.name);
  sources.groups = file.groups;
  for (const auto& path : words.groups) {
    if (!sources.read_file) return make_error(Errc::usage, "files of groups cannot be read here");
    const auto text = sources.read_file(path);
    if (!text) {
      Error error = text.error();
      error.what = "--groups: " + error.what;
      return error;
    }
    auto groups = launcher::parse_group_file(*text, path);
    if (!groups) return groups.error();
    for (auto& [name, expression] : *groups) sources.groups.insert_or_assign(name, std::move(expression));
  }
  return sources;
}

HostConfig ChosenHosts::merged(HostConfig host, std::string where) const {
  if (const auto found = known_.find(host.name); found != known_.end()) {
    HostConfig from_file = *found->second;
    if (host.user) from_file.user = host.user;
    if (host.port) from_file.port = host.port;
    if (host.slots) from_file.slots = host.slots;
    host = std::move(from_file);
  }
  host.where = std::move(where);
  return host;
}

Result<void> ChosenHosts::take_text(std::string_view text, const std::string& name, HostfileFormat format) {
  auto read = launcher::parse_hostfile(text, name, format, sources_);
  if (!read) return read.error();
  for (auto& host : read->hosts) {
    std::string where = host.where;
    choice_.slots_given |= host.slots.has_value();
    from_files_.push_back(merged(std::move(host), std::move(where)));
  }
  choice_.notes.insert(choice_.notes.end(), read->notes.begin(), read->notes.end());
  return ok;
}

Result<void> ChosenHosts::take_file(const std::string& path, HostfileFormat format) {
  const bool standard_input = path == "-";
  if (standard_input ? !sources_.read_stdin : !sources_.read_file)
    return make_error(Errc::usage, "host files cannot be read here");
  const auto text = standard_input ? sources_.read_stdin() : sources_.read_file(path);
  if (!text) return text.error();
  return take_text(*text, standard_input ? "(stdin)" : path, format);
}

Result<void> ChosenHosts::take_slurm() {
  const std::string list = variable_in(world_.environment, "SLURM_JOB_NODELIST");
  if (list.empty())
    return make_error(Errc::usage, "--from slurm: SLURM_JOB_NODELIST is not set", {}, "this is no Slurm job");
  if (auto taken = take_text(list, "SLURM_JOB_NODELIST", HostfileFormat::slurm); !taken) return taken;
  const std::string tasks = variable_in(world_.environment, "SLURM_TASKS_PER_NODE");
  if (tasks.empty()) return ok;
  const auto slots = launcher::slurm_tasks(tasks, from_files_.size());
  if (!slots) return as_usage(slots.error(), "--from slurm");
  for (std::size_t i = 0; i < from_files_.size(); ++i) from_files_[i].slots = (*slots)[i];
  choice_.slots_given = true;
  return ok;
}

/// Without a file: what the batch system has put into the environment.
Result<void> ChosenHosts::take_allocation(HostfileFormat format) {
  if (format == HostfileFormat::slurm) return take_slurm();
  if (format == HostfileFormat::pbs) {
    const std::string path = variable_in(world_.environment, "PBS_NODEFILE");
    if (!path.empty()) return take_file(path, format);
    return make_error(Errc::usage, "--from pbs: PBS_NODEFILE is not set", {},
                      "this is no PBS job; --hostfile names a file");
  }
  for (const char* name : {"LSB_MCPU_HOSTS", "LSB_HOSTS"}) {
    const std::string list = variable_in(world_.environment, name);
    if (!list.empty()) return take_text(list, name, format);
  }
  return make_error(Errc::usage, "--from lsf: neither LSB_MCPU_HOSTS nor LSB_HOSTS is set", {},
                    "this is no LSF job; --hostfile names a file");
}

bool ChosenHosts::batch_format(HostfileFormat format) const {
  return format == HostfileFormat::slurm || format == HostfileFormat::pbs || format == HostfileFormat::lsf;
}

Result<void> ChosenHosts::take_words(const std::string& option) {
  for (const auto& expression : words_.include)
    if (auto taken = selector_.include(expression, ""); !taken) return as_usage(taken.error(), option);
  const auto format = launcher::hostfile_format(words_.from.value_or("auto")).value_or(HostfileFormat::automatic);
  for (const auto& path : words_.hostfiles)
    if (auto taken = take_file(path, format); !taken) return taken;
  if (words_.hostfiles.empty() && batch_format(format)) {
    if (auto taken = take_allocation(format); !taken) return taken;
    choice_.named = true;
  } else if (words_.hostfiles.empty() && words_.from && *words_.from != "auto" && format != HostfileFormat::pdsh) {
    return make_error(Errc::usage, fmt::format("--from {} needs a file", *words_.from), {}, "--hostfile names it");
  }
  choice_.named |= !words_.include.empty() || !words_.hostfiles.empty();
  const std::string wcoll = variable_in(world_.environment, "WCOLL");
  if (!choice_.named && file_.hosts.empty() && !wcoll.empty()) {
    if (auto taken = take_file(wcoll, HostfileFormat::pdsh); !taken) {
      Error error = taken.error();
      if (error.hint.empty()) error.hint = "the variable WCOLL names this file";
      return error;
    }
    choice_.named = true;
  }
  included_ = selector_.names();
  for (const auto& expression : words_.exclude)
    if (auto taken = selector_.exclude(expression, ""); !taken) return as_usage(taken.error(), "--exclude");
  return ok;
}

/// `-x gpu99` of a host that is not meant anyway: most often a typing error, and then the one that was meant runs. What
/// a group, a file or a pattern leaves out may well be more than is there.
void ChosenHosts::note_excluded_in_vain() {
  std::unordered_set<std::string> meant;
  for (const auto& host : from_files_) meant.insert(host.name);
  for (const auto& name : included_) meant.insert(launcher::host_named(name).name);
  std::vector<std::string> missing;
  for (const auto& expression : words_.exclude) {
    if (expression.find_first_of("@^/*?&!") != expression.npos) continue;
    const auto names = launcher::expand_hostlist(expression);
    if (!names) continue;
    for (const auto& name : *names)
      if (meant.count(name) == 0) missing.push_back(name);
  }
  if (missing.empty()) return;
  choice_.notes.push_back(fmt::format("--exclude: {} {} not among the hosts", launcher::compress_hostlist(missing),
                                      missing.size() == 1 ? "is" : "are"));
}

Result<HostChoice> ChosenHosts::make(const std::string& option) {
  if (auto taken = take_words(option); !taken) return taken.error();
  choice_.notes.insert(choice_.notes.end(), selector_.notes().begin(), selector_.notes().end());
  if (!choice_.named) from_files_ = file_.hosts;
  for (const auto& name : selector_.names()) {
    choice_.hosts.push_back(merged(launcher::host_named(name), option));
    choice_.written.push_back(name);
  }
  note_excluded_in_vain();
  for (auto& host : from_files_) {
    if (!selector_.keeps(host.name)) continue;
    choice_.written.push_back(host.name);
    choice_.hosts.push_back(std::move(host));
  }
  if (choice_.hosts.size() > launcher::kMaxHosts)
    return make_error(Errc::usage, fmt::format("more than {} hosts are named", launcher::kMaxHosts));
  return std::move(choice_);
}

}  // namespace

HostWorld host_world(const EnvList& environment) {
  HostWorld world;
  world.environment = environment;
  world.sources.read_file = read_file;
  world.sources.read_stdin = [] { return read_all(STDIN_FILENO, "stdin"); };
  return world;
}

Result<void> take_sections_hosts(Config& file, const HostWords& words, const HostWorld& world) {
  if (!words.include.empty() || !words.hostfiles.empty() || words.from) return ok;
  return launcher::take_accelerate_hosts(file, world.sources);
}

Result<HostChoice> choose_hosts(const Config& file, const HostWords& words, const HostWorld& world,
                                const std::string& option) {
  auto sources = sources_of(file, words, world);
  if (!sources) return sources.error();
  return ChosenHosts(file, words, world, std::move(*sources)).make(option);
}

Result<void> check_named_once(const std::vector<HostConfig>& hosts) {
  std::unordered_set<std::string_view> names;
  for (const auto& host : hosts) {
    if (names.insert(host.name).second) continue;
    return make_error(Errc::usage, fmt::format("host '{}' is named twice", host.name), {},
                      "leave one out; A!B,B is A and B without what is in both");
  }
  return ok;
}

}  // namespace llmlaunch::cli
