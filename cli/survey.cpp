// Makes the plan of a survey and runs it.
#include "cli/survey.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "cli/exec.hpp"
#include "cli/head.hpp"
#include "cli/run.hpp"

namespace llmlaunch::cli {

std::string temporary_directory() {
  const char* given = std::getenv("TMPDIR");
  return given && *given != '\0' ? given : "/tmp";
}

namespace {

/// A launch on the hosts of `config` that has nothing to do with ranks: no env, no setup, no workdir that may not
/// exist.
struct Ready {
  launcher::LaunchPlan plan;
  launcher::LaunchOptions launch;
};
Result<Ready> ready_for(const launcher::Config& config, const SurveyWays& ways) {
  auto head = head_facts();
  if (!head) return head.error();
  launcher::Config asked;
  asked.hosts = config.hosts;
  asked.ssh = config.ssh;
  asked.timeouts = config.timeouts;
  asked.timeouts.run.reset();
  asked.log_dir.clear();
  for (auto& host : asked.hosts) {
    host.slots = 1;
    host.workdir.reset();
    host.env.clear();
    host.rank_env.clear();
    host.setup.clear();
    host.gpu_ids.reset();
  }
  auto plan = launcher::make_plan(asked, {{"true"}, {}, launcher::StartPolicy::each_host}, *head);
  if (!plan) return plan.error();
  const auto agent = find_helper(kAgentProgram);
  if (!agent) return agent.error();
  launcher::LaunchOptions launch = launch_options(*agent, ways.verbosity, ways.no_progress);
  launch.ask_password = ways.ask_pass;
  launch.batch = !ways.ask_pass;
  launch.host_keys = ways.host_keys;
  return Ready{std::move(*plan), std::move(launch)};
}

}  // namespace

Result<std::vector<launcher::HostSurvey>> survey_hosts(const launcher::Config& config, const SurveyWays& ways) {
  auto ready = ready_for(config, ways);
  if (!ready) return ready.error();
  return launcher::run_survey(std::move(ready->plan), std::move(ready->launch), temporary_directory());
}

Result<launcher::OwnKey> own_key_for(launcher::Config& config) {
  const auto ready = ready_for(config, {});
  if (!ready) return ready.error();
  const auto keys = launcher::own_keys(ready->plan);
  if (!keys) return keys.error();
  const auto found = std::find_if(keys->begin(), keys->end(), [](const auto& key) { return !key.line.empty(); });
  if (found == keys->end()) return launcher::OwnKey{};
  std::vector<launcher::HostConfig> hosts;
  for (std::size_t i = 0; i < keys->size(); ++i)
    if ((*keys)[i].line == found->line) hosts.push_back(config.hosts[i]);
  config.hosts = std::move(hosts);
  return *found;
}

Result<std::vector<launcher::HostSurvey>> install_key_on(const launcher::Config& config, const std::string& public_key,
                                                         launcher::HostKeyDesk* host_keys) {
  auto ready = ready_for(config, {Verbosity::quiet, true, true, host_keys});
  if (!ready) return ready.error();
  return launcher::install_key(std::move(ready->plan), std::move(ready->launch), public_key, temporary_directory());
}

}  // namespace llmlaunch::cli
