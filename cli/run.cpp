// `llmlaunch run`. The order is: read everything, decide everything, then touch the first host.
#include "cli/run.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "cli/dry_run.hpp"
#include "cli/explain.hpp"
#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/report.hpp"
#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

constexpr const char* kTrainWord = "train";
constexpr const char* kTrainer = "llmlaunch-train";
constexpr const char* kAgent = "llmlaunch-agent";

/// The file that was named, else accelerate's default, else nothing: this machine.
Result<launcher::Config> read_config(const RunOptions& options, const launcher::HeadFacts& head) {
  launcher::ConfigInput input{options.config.value_or(""), options.settings, head.environment};
  const auto standard = options.config ? std::nullopt : default_config();
  if (standard) {
    log_info("configuration: {} (--config names another)", printable(*standard));
    input.path = *standard;
  }
  return read_config_file(input, head.cwd);
}

Result<launcher::Command> command_of(const RunOptions& options) {
  launcher::Command command{options.command, {}};
  if (command.argv.front() != kTrainWord) return command;
  auto path = find_helper(kTrainer);
  if (!path) return path.error();
  command.argv.front() = kTrainer;
  command.program = launcher::PushedProgram{kTrainer, std::move(*path)};
  return command;
}

Result<launcher::Config> config_of(const RunOptions& options, const launcher::HeadFacts& head) {
  auto read = read_config(options, head);
  if (!read) return read;
  const auto secrets = read->secrets;
  auto config = with_options(std::move(*read), options, head.environment, host_world(head.environment).sources);
  if (!config) return launcher::without_values(config.error(), secrets);
  return config;
}

Result<launcher::LaunchPlan> plan_of(const RunOptions& options) {
  auto head = head_facts();
  if (!head) return head.error();
  const auto config = config_of(options, *head);
  if (!config) return config.error();
  const auto command = command_of(options);
  if (!command) return command.error();
  auto plan = launcher::make_plan(*config, *command, *head);
  if (!plan) return launcher::without_values(plan.error(), config->secrets);
  return plan;
}

/// For tests: ssh sessions on threads whatever the number of hosts and cores. Nothing for an unset variable.
Result<std::optional<std::size_t>> ssh_workers() {
  constexpr const char* kVariable = "LLMLAUNCH_TEST_SSH_WORKERS";
  const char* text = std::getenv(kVariable);
  if (text == nullptr || *text == '\0') return std::optional<std::size_t>();
  const std::string_view value(text);
  if (value.size() == 1 && value.front() >= '0' && value.front() <= '8')
    return std::optional<std::size_t>(value.front() - '0');
  return make_error(Errc::usage, fmt::format("{} must be a number from 0 to 8, not '{}'", kVariable, value));
}

int fail(const Error& error) {
  report_error(error);
  return number(exit_status_of(error));
}

int explain(const RunOptions& options) {
  const auto head = head_facts();
  if (!head) return fail(head.error());
  const auto config = config_of(options, *head);
  if (!config) return fail(config.error());
  for (const auto& note : config->notes) log_warning("{}", printable(note));
  return print_answer(explained(*config, typed_values(options), true), "the settings");
}

/// `train --help`: a question that needs no host and no configuration.
bool asks_trainer(const std::vector<std::string>& command) {
  constexpr std::array<std::string_view, 3> kQuestions{"-h", "--help", "--version"};
  return command.front() == kTrainWord &&
         std::find_first_of(command.begin() + 1, command.end(), kQuestions.begin(), kQuestions.end()) != command.end();
}

/// The trainer itself answers, on our stdout; its status is ours.
int answer_of_trainer(const RunOptions& options) {
  auto command = command_of(options);
  if (!command) return fail(command.error());
  std::vector<char*> argv;
  for (auto& word : command->argv) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string& path = command->program->local_path;
  pid_t pid = 0;
  if (const int failed = ::posix_spawn(&pid, path.c_str(), nullptr, nullptr, argv.data(), environ); failed != 0) {
    return fail(system_error(failed, "starting " + path));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return fail(system_error(errno, "waiting for " + path));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int print_plan(const launcher::LaunchPlan& plan) {
  return print_answer(describe_plan(plan), "the plan");
}

int print_answer(const std::string& text, const std::string& what) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (written) return number(ExitStatus::done);
  report_error(system_error(errno, fmt::format("writing {} to stdout", what)));
  return number(ExitStatus::io);
}

LogLevel log_level_of(Verbosity verbosity) {
  return verbosity == Verbosity::quiet     ? LogLevel::warning
         : verbosity == Verbosity::verbose ? LogLevel::debug
                                           : LogLevel::info;
}

launcher::LaunchOptions launch_options(const std::string& agent, Verbosity verbosity, bool no_progress) {
  launcher::LaunchOptions launch;
  launch.agent_path = agent;
  launch.quiet = verbosity == Verbosity::quiet;
  launch.stdout_colors = wants_colour(STDOUT_FILENO);
  launch.stderr_colors = wants_colour(STDERR_FILENO);
  launch.live_line = !launch.quiet && !no_progress && can_redraw(STDERR_FILENO);
  return launch;
}

int run_command(const RunOptions& options) {
  set_log_level(log_level_of(options.verbosity));
  choose_colour(options.color.value_or(launcher::ColorWhen::automatic));
  if (asks_trainer(options.command)) return answer_of_trainer(options);
  if (options.explain) return explain(options);
  const auto plan = plan_of(options);
  if (!plan) return fail(plan.error());
  choose_colour(plan->logs.color);
  for (const auto& note : plan->notes) log_warning("{}", printable(note));
  if (options.dry_run) return print_plan(*plan);

  const auto agent = find_helper(kAgent);
  if (!agent) return fail(agent.error());
  launcher::LaunchOptions launch = launch_options(*agent, options.verbosity, options.no_progress);
  launch.timeline = options.timeline;
  launch.batch = options.batch;
  launch.ask_password = options.ask_pass;
  const auto workers = ssh_workers();
  if (!workers) return fail(workers.error());
  launch.ssh_workers = *workers;
  const auto result = launcher::run_job(*plan, launch);
  if (!result) return fail(launcher::without_values(result.error(), plan->secrets));
  if (result->failure) report_error(launcher::without_values(*result->failure, plan->secrets));
  return result->exit_status;
}

}  // namespace llmlaunch::cli
