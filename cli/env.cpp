// `llmlaunch env`: a survey, shown. The hosts are chosen as exec chooses them.
#include "cli/env.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/exec.hpp"
#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "cli/survey.hpp"
#include "launcher/accelerate_hosts.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

// Of a file or a pipe.
constexpr std::size_t kUsualTableWidth = 120;

std::size_t width_of_stdout() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kUsualTableWidth;
}

/// Nothing named and no --all: no hosts, which is this machine.
Result<launcher::Config> env_config(const EnvOptions& options) {
  const HostWords& words = options.hosts;
  const bool named = options.all || options.config || !words.include.empty() || !words.hostfiles.empty() || words.from;
  if (!named) return launcher::Config{};
  auto head = head_facts();
  if (!head) return head.error();
  auto read = options.config ? read_config_file({*options.config, {}, head->environment}, head->cwd)
                             : Result<launcher::Config>(launcher::Config{});
  if (!read) return read.error();
  if (options.config && read->hosts.empty() && !launcher::names_host_file(*read) && words.include.empty() &&
      words.hostfiles.empty() && !words.from)
    return read;  // a file for this machine alone
  ExecOptions like_exec;
  like_exec.hosts = words;
  like_exec.user = options.user;
  like_exec.connect_timeout = options.connect_timeout;
  return with_exec_options(std::move(*read), like_exec, host_world(head->environment), "env");
}

}  // namespace

int env_command(const EnvOptions& options) {
  set_log_level(log_level_of(options.verbosity));
  const auto config = env_config(options);
  if (!config) return fail(config.error());
  const auto hosts =
      survey_hosts(*config, {options.verbosity, options.no_progress || options.json, options.ask_pass, nullptr});
  if (!hosts) return fail(hosts.error());
  const bool alone = config->hosts.empty() && hosts->size() == 1 && hosts->front().facts;
  const std::string text = options.json ? launcher::survey_json(*hosts)
                           : alone      ? launcher::survey_list(*hosts->front().facts)
                                        : launcher::survey_table(*hosts, width_of_stdout());
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return fail(make_error(Errc::io, "the facts could not be written to stdout"));
  const bool all = std::all_of(hosts->begin(), hosts->end(), [](const auto& host) { return host.facts.has_value(); });
  return number(all ? ExitStatus::done : ExitStatus::unavailable);
}

}  // namespace llmlaunch::cli
