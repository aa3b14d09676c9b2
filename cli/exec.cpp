// `llmlaunch exec`. The order is that of run: read everything, decide everything, then touch the first host.
#include "cli/exec.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "cli/dry_run.hpp"
#include "cli/explain.hpp"
#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "cli/survey.hpp"
#include "launcher/exec.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

/// A sink that writes it all, or says that nobody reads.
launcher::TextSink sink_of(int fd) {
  return [fd](std::string_view text) -> Result<void> {
    while (!text.empty()) {
      const ssize_t put = ::write(fd, text.data(), text.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN) {  // a program that shares the terminal has made it non-blocking
        pollfd room{fd, POLLOUT, 0};
        ::poll(&room, 1, -1);
        continue;
      }
      if (put < 0) return system_error(errno, fd == STDOUT_FILENO ? "write to stdout" : "write to stderr");
      text.remove_prefix(static_cast<std::size_t>(put));
    }
    return ok;
  };
}

Result<launcher::Config> exec_config(const ExecOptions& options, const launcher::HeadFacts& head) {
  // A named host needs no file, and a default file of accelerate's has nothing to say about ssh.
  auto read = read_config_file({options.config.value_or(""), options.settings, head.environment}, head.cwd);
  if (!read) return read;
  const auto secrets = read->secrets;
  auto config = with_exec_options(std::move(*read), options, host_world(head.environment));
  if (!config) return launcher::without_values(config.error(), secrets);
  return config;
}

int explain_exec(const ExecOptions& options) {
  const auto head = head_facts();
  if (!head) return fail(head.error());
  const auto config = exec_config(options, *head);
  if (!config) return fail(config.error());
  return print_answer(explained(*config, typed_values(options), false), "the settings");
}

Result<launcher::LaunchPlan> exec_plan(const ExecOptions& options) {
  if (is_glob_accident(options, exists))
    return make_error(Errc::usage,
                      fmt::format("the command would be '{}', which is a file here like the host '{}'",
                                  options.command.front(), options.hosts.include.front()),
                      {}, "the shell has put names of files in the place of a pattern: write -w 'n[1-3]' in quotes");
  auto head = head_facts();
  if (!head) return head.error();
  const auto config = exec_config(options, *head);
  if (!config) return config.error();
  auto plan = launcher::make_plan(*config, {options.command, {}, launcher::StartPolicy::each_host}, *head);
  if (!plan) return launcher::without_values(plan.error(), config->secrets);
  plan->hosts_at_once = options.fanout.value_or(0);
  plan->host_timeout = options.timeout;
  return plan;
}

Result<void> show(const ExecOptions& options, const launcher::LaunchPlan& plan, const launcher::JobResult& result,
                  const launcher::GatheredOutput& gathered) {
  if (options.json) return launcher::write_json(plan, result, gathered, sink_of(STDOUT_FILENO));
  return launcher::write_groups(result.hosts, gathered, sink_of(STDOUT_FILENO), sink_of(STDERR_FILENO));
}

}  // namespace

int exec_command(const ExecOptions& options) {
  set_log_level(log_level_of(options.verbosity));
  if (options.explain) return explain_exec(options);
  const auto plan = exec_plan(options);
  if (!plan) return fail(plan.error());
  choose_colour(plan->logs.color);
  for (const auto& note : plan->notes) log_warning("{}", printable(note));
  if (options.dry_run) return print_plan(*plan);

  const auto agent = find_helper(kAgentProgram);
  if (!agent) return fail(agent.error());
  launcher::GatheredOutput gathered(plan->hosts.size(), temporary_directory());
  launcher::LaunchOptions launch = launch_options(*agent, options.verbosity, options.no_progress);
  launch.timeline = options.timeline;
  launch.ask_password = options.ask_pass;
  launch.batch = !options.ask_pass;
  launch.gather = options.lines ? nullptr : &gathered;
  const auto result = launcher::run_job(*plan, launch);
  if (!result) return fail(launcher::without_values(result.error(), plan->secrets));
  std::optional<Error> unshown;
  if (!options.lines)
    if (auto shown = show(options, *plan, *result, gathered); !shown) unshown = shown.error();
  if (options.table && result->exit_status != 128 + SIGPIPE)
    if (auto shown = launcher::write_table(result->hosts, sink_of(STDERR_FILENO)); !shown && !unshown)
      unshown = shown.error();
  if (result->failure && result->exit_status != 128 + SIGPIPE)
    report_error(launcher::without_values(*result->failure, plan->secrets));
  if (!unshown) return result->exit_status;
  report_error(*unshown);
  return result->exit_status != 0 ? result->exit_status : number(ExitStatus::io);
}

}  // namespace llmlaunch::cli
