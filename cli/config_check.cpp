// The same steps as of a run, as far as they need no host: read, check, plan. What only a start would find and this
// machine can tell (files that are not there) is a warning.
#include "cli/config_check.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "cli/config_summary.hpp"
#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

Result<std::string> file_of(const ConfigCheckOptions& options) {
  if (options.file) return *options.file;
  if (auto path = default_config()) return *std::move(path);
  return make_error(Errc::usage, "config check: no file given, and accelerate's default file is not there", {},
                    "llmlaunch config check FILE");
}

/// A key or a configuration of ssh that this machine does not have: ssh goes on without it, and then says something
/// else.
void warn_of_missing(const launcher::Config& config) {
  std::set<std::string> said;
  const auto look = [&said](const std::string& key, const std::string& file, const std::string& where) {
    if (::access(expand_home(file).c_str(), R_OK) == 0 || !said.insert(file).second) return;
    const std::string why = std::error_code(errno, std::generic_category()).message();
    log_warning("{}", printable(fmt::format("{}: {} {}: {}", where, key, file, why)));
  };
  const auto place = config.places.find("llmlaunch.ssh");
  const std::string where = place == config.places.end() ? config.file : place->second.text;
  for (const auto& file : config.ssh.identity_files) look("identity_file", file, where);
  for (const auto& host : config.hosts)
    for (const auto& file : host.identity_files) look("identity_file", file, host.where);
  if (config.ssh.config_file && *config.ssh.config_file != "none") look("config_file", *config.ssh.config_file, where);
}

}  // namespace

int config_check_command(const ConfigCheckOptions& options) {
  if (options.quiet) set_log_level(LogLevel::warning);
  const auto head = head_facts();
  if (!head) return fail(head.error());
  const auto file = file_of(options);
  if (!file) return fail(file.error());
  auto read = read_config_file({*file, options.settings, head->environment}, head->cwd);
  if (!read) return fail(read.error());
  const auto secrets = read->secrets;
  auto config = with_options(std::move(*read), RunOptions{}, head->environment, host_world(head->environment).sources);
  if (!config) return fail(launcher::without_values(config.error(), secrets));
  // A file for machines that are started one by one may leave to the command line which one this is.
  if (launcher::runs_per_machine(*config))
    config->places.emplace("machine_rank", launcher::ConfigPlace{"config check", launcher::ConfigOrigin::option});
  const auto plan = launcher::make_plan(*config, launcher::Command{{"PROGRAM"}, {}}, *head);
  if (!plan) return fail(launcher::without_values(plan.error(), secrets));
  for (const auto& note : plan->notes) log_warning("{}", printable(note));
  warn_of_missing(*config);
  if (options.quiet) return number(ExitStatus::done);
  const std::string text = describe_config(*config, *plan);
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return number(ExitStatus::done);
  return fail(system_error(errno, "writing to stdout"));
}

}  // namespace llmlaunch::cli
