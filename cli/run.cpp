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
Result<launcher::Config> read_config(const RunOptions& options, const std::string& cwd) {
  if (options.config) return read_config_file(*options.config, cwd);
  const auto path = default_config();
  if (!path) return launcher::Config{};
  log_info("configuration: {} (--config names another)", printable(*path));
  return read_config_file(*path, cwd);
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

Result<launcher::LaunchPlan> plan_of(const RunOptions& options) {
  auto head = head_facts();
  if (!head) return head.error();
  auto read = read_config(options, head->cwd);
  if (!read) return read.error();
  const auto config = with_options(std::move(*read), options, head->environment, host_world(head->environment).sources);
  if (!config) return config.error();
  const auto command = command_of(options);
  if (!command) return command.error();
  return launcher::make_plan(*config, *command, *head);
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

Result<launcher::Config> read_config_file(const std::string& path, const std::string& cwd) {
  auto config = launcher::load_config(path);
  if (config) return config;
  Error error = config.error();
  if (error.code == Errc::not_found && !path.starts_with('/')) error.hint = fmt::format("looked in {}", cwd);
  error.code = make_error_code(Errc::invalid_config);  // a file that is not there is a wrong configuration, too
  return error;
}

int print_plan(const launcher::LaunchPlan& plan) {
  const std::string text = describe_plan(plan);
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (written) return number(ExitStatus::done);
  report_error(system_error(errno, "writing the plan to stdout"));
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
  if (!result) return fail(result.error());
  if (result->failure) report_error(*result->failure);
  return result->exit_status;
}

}  // namespace llmlaunch::cli
