// `llmlaunch run`. The order is: read everything, decide everything, then touch the first host.
#include "cli/run.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string_view>

#include "cli/cron.hpp"
#include "cli/dry_run.hpp"
#include "cli/explain.hpp"
#include "cli/head.hpp"
#include "cli/host_choice.hpp"
#include "cli/machines_text.hpp"
#include "cli/meant_trainer.hpp"
#include "cli/python_command.hpp"
#include "cli/report.hpp"
#include "cli/run_lock.hpp"
#include "launcher/call_token.hpp"
#include "launcher/launch.hpp"
#include "launcher/member.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/env.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

constexpr const char* kTrainer = "llmlaunch-train";

/// The file that was named, else accelerate's default, else nothing: this machine.
Result<launcher::Config> read_config(const RunOptions& options, const launcher::HeadFacts& head) {
  launcher::ConfigInput input{options.config.value_or(""), options.settings, head.environment, options.overrides};
  const auto standard = options.config ? std::nullopt : default_config();
  if (standard) {
    log_info("configuration: {} (--config names another)", printable(*standard));
    input.path = *standard;
  }
  return read_config_file(input, head.cwd);
}

Result<launcher::Command> command_of(const RunOptions& options, const std::string& python = {}) {
  if (options.command.front() != kTrainWord || options.module || options.no_python)
    return python_command(options, options.python.value_or(python));
  launcher::Command command{options.command, {}};
  auto path = find_helper(kTrainer);
  if (!path) return path.error();
  command.argv.front() = kTrainer;
  command.program = launcher::PushedProgram{kTrainer, std::move(*path)};
  return command;
}

/// torchrun's --local-ranks-filter.
void show_local_ranks(const std::vector<launcher::RankRange>& chosen, launcher::LaunchPlan& plan) {
  if (chosen.empty()) return;
  plan.logs.ranks.clear();
  for (const auto& host : plan.hosts) {
    for (const auto& rank : host.ranks) {
      const bool shown = std::any_of(chosen.begin(), chosen.end(), [&rank](const launcher::RankRange& range) {
        return rank.local_rank >= range.first && rank.local_rank <= range.second;
      });
      if (shown) plan.logs.ranks.emplace_back(number(rank.rank), number(rank.rank));
    }
  }
}

Result<launcher::Config> run_config(const RunOptions& options, const launcher::HeadFacts& head) {
  auto read = read_config(options, head);
  if (!read) return read;
  const auto secrets = read->secrets;
  auto config = with_options(std::move(*read), options, head.environment, host_world(head.environment).sources);
  if (!config) return launcher::without_values(config.error(), secrets);
  return config;
}

/// What is read before anything is decided: the plan, and where the token of its machines would come from.
struct RunSettings {
  launcher::LaunchPlan plan;
  std::optional<std::string> token_file;
  std::string token_file_place;
};

/// The head's facts. The token is out of the environment; that there was one is known to who asks for its source.
Result<launcher::HeadFacts> facts_for_run(bool join_token) {
  auto head = head_facts();
  if (head && join_token) head->environment.emplace_back(env::kJoinToken, "taken");
  return head;
}

/// Whether this machine is that of main_process_ip says which place it has.
bool asks_for_main_machine(const launcher::Config& config) {
  return launcher::runs_per_machine(config) && !config.places.contains("machine_rank") && !config.is_host;
}

/// The program of the user's own may read what accelerate's variables say of it.
void note_what_the_trainer_lacks(const launcher::Config& config, launcher::LaunchPlan& plan) {
  const std::string& type = config.distributed_type;
  if (type != "FSDP" && type != "DEEPSPEED" && type != "MEGATRON_LM") return;
  const auto place = config.places.find("distributed_type");
  plan.notes.push_back(fmt::format("{}: distributed_type {} has no effect on {}: each of its ranks has the whole model",
                                   place == config.places.end() ? config.file : place->second.text, type, kTrainer));
}

Result<RunSettings> settings_of(const RunOptions& options, bool join_token) {
  auto head = facts_for_run(join_token);
  if (!head) return head.error();
  const auto config = run_config(options, *head);
  if (!config) return config.error();
  const auto command = command_of(options, config->python.value_or(""));
  if (!command) return command.error();
  if (asks_for_main_machine(*config)) head->main_addresses = addresses_of(*config->main_process_ip);
  auto plan = launcher::make_plan(*config, *command, *head);
  if (!plan) return launcher::without_values(plan.error(), config->secrets);
  if (command->program) note_what_the_trainer_lacks(*config, *plan);
  show_local_ranks(options.local_ranks, *plan);
  const auto place = config->places.find("llmlaunch.token_file");
  return RunSettings{std::move(*plan), config->token_file, place == config->places.end() ? "" : place->second.text};
}

/// The token of machines that are started one by one: what was typed, then the variable, then the file's key.
Result<launcher::CallToken> call_token_of(const RunOptions& options, const RunSettings& settings,
                                          const std::optional<std::string>& variable) {
  if (variable && !options.token_file) return launcher::CallToken::parse(*variable, env::kJoinToken);
  if (settings.token_file)
    return launcher::CallToken::read(expand_home(*settings.token_file), settings.token_file_place);
  return make_error(
      Errc::invalid_config,
      fmt::format(
          "the {} machines of this job are started one by one, and there is no token by which they know each other",
          settings.plan.hosts.size()),
      {},
      fmt::format(
          "{}, the same for all machines; --token-file, llmlaunch.token_file or {} names it. Or list the machines "
          "under llmlaunch.hosts, and one command starts them all by ssh",
          launcher::kMakesToken, env::kJoinToken));
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

int explain_run(const RunOptions& options, bool join_token) {
  const auto head = facts_for_run(join_token);
  if (!head) return fail(head.error());
  const auto config = run_config(options, *head);
  if (!config) return fail(config.error());
  for (const auto& note : config->notes) log_warning("{}", printable(note));
  const std::string text =
      explained(*config, typed_values(options), true) + explained_machines(*config, head->environment);
  return print_answer(text, "the settings");
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

int print_plan(const launcher::LaunchPlan& plan, bool json) {
  return print_answer(json ? launcher::plan_json(plan) : describe_plan(plan), "the plan");
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

namespace {

/// How a run speaks of its end: as it happens, or under --cron in one summary.
class Teller {
 public:
  explicit Teller(bool cron) : cron_(cron) {
    if (cron_) keep_what_is_said(said_);
  }
  ~Teller() {
    if (cron_) set_log_sink(nullptr);
  }
  Teller(const Teller&) = delete;
  Teller& operator=(const Teller&) = delete;

  int failed(const Error& error, int status, const launcher::LaunchPlan* plan = nullptr,
             const std::string& directory = {}) {
    if (!cron_) {
      report_error(error);
      return status;
    }
    const std::string text = cron_summary(error, status, plan, directory, said_);
    if (std::fwrite(text.data(), 1, text.size(), stderr) != text.size()) return status;  // nobody is left to be told
    return status;
  }
  int failed(const Error& error) { return failed(error, number(exit_status_of(error))); }
  /// While the job runs.
  void heard(LogLevel level, std::string_view line) {
    const std::scoped_lock lock(mutex_);
    said_.add(level, line);
  }

 private:
  bool cron_;
  std::mutex mutex_;
  SaidLines said_;
};

/// Where ranks' lines go under --cron; the run directory has them.
Result<int> nowhere() {
  const int fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return system_error(errno, "open /dev/null");
  return fd;
}

/// As machine 0 of machines that are started one by one, or with a plan for hosts.
Result<launcher::JobResult> run_plan(const RunOptions& options, const launcher::LaunchPlan& plan,
                                     const launcher::CallToken* token, std::shared_ptr<rendezvous::HeldPort> port,
                                     Teller& teller) {
  const auto agent = find_helper(kAgentProgram);
  if (!agent) return agent.error();
  launcher::LaunchOptions launch =
      launch_options(*agent, options.cron ? Verbosity::quiet : options.verbosity, options.no_progress);
  if (options.cron) {
    const auto null = nowhere();
    if (!null) return null.error();
    launch.stdout_fd = launch.stderr_fd = *null;
    launch.on_said = [&teller](LogLevel level, std::string_view line) { teller.heard(level, line); };
  }
  launch.timeline = options.timeline;
  launch.json_events = options.json_events;
  launch.batch = options.batch || options.cron;
  launch.ask_password = options.ask_pass;
  const auto workers = ssh_workers();
  if (!workers) return workers.error();
  launch.ssh_workers = *workers;
  launch.call_token = token;
  launch.port = std::move(port);
  return launcher::run_job(plan, launch);
}

/// As one of the other machines.
int join(Teller& teller, const launcher::LaunchPlan& plan, const launcher::CallToken& token) {
  const auto agent = find_helper(kAgentProgram);
  if (!agent) return teller.failed(agent.error());
  const auto result = launcher::join_job(plan, {*agent, token});
  if (!result) return teller.failed(result.error());
  if (result->failure) return teller.failed(*result->failure, result->exit_status);
  return result->exit_status;
}

/// By its address alone this machine would be machine 0: it is, if it has the port. Who has it already leads, as with
/// torchrun, so that several machines may be one.
Result<std::shared_ptr<rendezvous::HeldPort>> lead_if_free(launcher::LaunchPlan& plan) {
  auto port = launcher::hold_port(plan);
  if (!port) return port;
  const std::string at = fmt::format("{} port {}", plan.rendezvous_address, plan.rendezvous_port);
  if (*port) {
    log_info("{} is on this machine: it leads as machine 0, and gives out the places of the others", at);
  } else {
    plan.per_machine->machine_rank.reset();
    log_info("{} is on this machine, and another program has it: that is called as machine 0", at);
  }
  return port;
}

/// It has the job, or will if it has the port: one of the other machines only joins one.
bool may_lead(const launcher::LaunchPlan& plan) {
  return !plan.per_machine || plan.per_machine->machine_rank == 0u;
}

Result<RunLock> lock_of(const RunOptions& options, const std::string& job_id) {
  const auto head = head_facts();
  if (!head) return head.error();
  return RunLock::take(options.config.value_or(default_config().value_or("")), job_id, head->environment);
}

}  // namespace

int run_command(const RunOptions& options, const std::optional<std::string>& join_token) {
  set_log_level(log_level_of(options.verbosity));
  choose_colour(options.color.value_or(launcher::ColorWhen::automatic));
  if (asks_trainer(options.command)) return answer_of_trainer(options);
  if (options.explain) return explain_run(options, join_token.has_value());
  Teller teller(options.cron);
  auto settings = settings_of(options, join_token.has_value());
  if (!settings) return teller.failed(settings.error());
  launcher::LaunchPlan* const plan = &settings->plan;
  choose_colour(plan->logs.color);
  for (const auto& note : plan->notes) log_warning("{}", printable(note));
  if (options.dry_run) return print_plan(*plan, options.json);
  std::optional<launcher::CallToken> token;
  if (plan->per_machine) {
    auto read = call_token_of(options, *settings, join_token);
    if (!read) return teller.failed(read.error());
    token = *read;
  }
  // Before the port is asked for: a second run would find it taken, and go to the first one as one of its machines.
  RunLock lock;
  if (options.lock && may_lead(*plan)) {
    auto taken = lock_of(options, plan->job_id);
    if (!taken) return teller.failed(taken.error(), number(exit_status_of(taken.error())), &*plan);
    lock.swap(*taken);
  }
  std::shared_ptr<rendezvous::HeldPort> port;
  if (plan->per_machine && plan->per_machine->if_free) {
    auto held = lead_if_free(*plan);
    if (!held) return teller.failed(held.error());
    port = std::move(*held);
  }
  if (!may_lead(*plan)) return join(teller, *plan, *token);
  const auto result = run_plan(options, *plan, token ? &*token : nullptr, std::move(port), teller);
  if (!result)
    return teller.failed(launcher::without_values(result.error(), plan->secrets),
                         number(exit_status_of(result.error())), &*plan);
  if (result->failure)
    return teller.failed(
        launcher::without_values(with_meant_trainer(*result->failure, options.command.front()), plan->secrets),
        result->exit_status, &*plan, result->run_directory);
  return result->exit_status;
}

}  // namespace llmlaunch::cli
