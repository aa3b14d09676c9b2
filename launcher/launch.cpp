// run_job: what must be there before a job can be tried, then the job, then its record. Called by the cli.
#include "launcher/launch.hpp"

#include <algorithm>
#include <csignal>
#include <thread>

#include "launcher/descriptor_limit.hpp"
#include "launcher/job.hpp"
#include "launcher/job_record.hpp"
#include "launcher/log_files.hpp"
#include "launcher/pushed_libraries.hpp"
#include "launcher/run_directories.hpp"
#include "launcher/ssh/ssh_shell.hpp"
#include "launcher/timeline.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

// A connection or pager that goes away is an error of one write, not the end of the process.
class IgnoreSigpipe {
 public:
  IgnoreSigpipe() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before_);
  }
  ~IgnoreSigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }
  IgnoreSigpipe(const IgnoreSigpipe&) = delete;
  IgnoreSigpipe& operator=(const IgnoreSigpipe&) = delete;

 private:
  struct sigaction before_ {};
};

// The plan's program, and what other machines may lack to run it.
Result<PushedFiles> open_pushed_files(const LaunchPlan& plan, bool remote) {
  PushedFiles files;
  if (!plan.program) return files;
  std::vector<PushedProgram> wanted = {*plan.program};
  if (remote) {
    Result<std::vector<PushedProgram>> libraries = libraries_of(plan.program->local_path);
    if (!libraries) return libraries.error();
    wanted.insert(wanted.end(), libraries->begin(), libraries->end());
  }
  for (const PushedProgram& one : wanted) {
    Result<PushedFile> opened = PushedFile::open(one);
    if (!opened) return opened.error();
    files.push_back(std::make_shared<const PushedFile>(std::move(*opened)));
  }
  return files;
}

// The first state of the run's record, and its files.
Result<LogFiles> make_log_files(const LaunchPlan& plan, const JobTimes& times, const std::string& directory) {
  const auto written = replace_file(directory + "/job.json", job_record(plan, times, nullptr));
  if (!written) return written.error();
  if (plan.policy == StartPolicy::gang) return LogFiles::create(directory, plan.world_size, plan.logs);
  std::vector<std::string> names;
  for (const HostPlan& host : plan.hosts) names.push_back(host.name);
  LogSettings all = plan.logs;
  all.per_rank = all.merged = true;
  return LogFiles::create(directory, std::move(names), all);
}

// A job that ended well and has no record has not ended well.
void keep_record(const std::string& directory, const LaunchPlan& plan, const JobTimes& times, JobResult& result) {
  const auto written = replace_file(directory + "/job.json", job_record(plan, times, &result));
  if (written) return;
  log_error("{}; the record of this run is incomplete", to_string(written.error()));
  if (result.exit_status != 0) return;
  result.exit_status = kStatusLogsIncomplete;
  result.failure = written.error();
}

}  // namespace

Result<std::shared_ptr<rendezvous::HeldPort>> hold_port(const LaunchPlan& plan) {
  auto held = rendezvous::HeldPort::take(plan.per_machine->bind_address, plan.rendezvous_port);
  if (!held) return held.error();
  if (!*held) return std::shared_ptr<rendezvous::HeldPort>();
  return std::make_shared<rendezvous::HeldPort>(std::move(**held));
}

Result<JobResult> run_job(const LaunchPlan& plan, const LaunchOptions& options) {
  if (plan.hosts.empty() || plan.world_size == 0)
    return make_error(Errc::internal, "a plan without hosts or ranks reached run_job");
  const IgnoreSigpipe ignore_sigpipe;
  const auto descriptors = DescriptorLimit::raise_for(plan);
  if (!descriptors) return descriptors.error();
  std::shared_ptr<const AgentBinary> agent;
  if (!options.make_shell) {
    Result<AgentBinary> loaded = load_agent_binary(options.agent_path);
    if (!loaded) return loaded.error();
    agent = std::make_shared<const AgentBinary>(std::move(*loaded));
  }
  if (plan.per_machine && options.call_token == nullptr)
    return make_error(Errc::internal, "a plan of machines that are started one by one has no token");
  std::shared_ptr<ssh::SshContext> ssh;
  const auto remotes = static_cast<std::size_t>(std::count_if(
      plan.hosts.begin(), plan.hosts.end(), [](const HostPlan& host) { return !host.local && !host.calls_in; }));
  const bool remote = remotes > 0 || plan.per_machine;
  if (remotes > 0 && !options.make_shell) {
    const std::size_t workers =
        options.ssh_workers.value_or(ssh::worker_count(remotes, std::thread::hardware_concurrency()));
    auto loaded = ssh::load_ssh_context(plan, {options.batch, options.ask_password, options.host_keys}, workers);
    if (!loaded) return loaded.error();
    ssh = std::move(*loaded);
  }
  Result<PushedFiles> pushed = open_pushed_files(plan, remote);
  if (!pushed) return pushed.error();
  if (!options.timeline.empty()) {  // a place that cannot be written is known before the job, not after it
    const Timeline nothing(plan.job_id, {}, std::chrono::steady_clock::now());
    if (auto written = write_timeline(options.timeline, nothing); !written) {
      Error error = written.error();
      error.what = "--timeline: " + error.what;
      return error;
    }
  }
  if (!options.json_events.empty())  // the same
    if (auto place = open_events(options.json_events); !place) return place.error();
  JobTimes times{std::chrono::system_clock::now(), std::nullopt};
  RunDirectory run;
  if (!plan.log_dir.empty()) {
    Result<RunDirectory> made = make_run_directory(plan.log_dir, plan.job_id);
    if (!made) return made.error();
    run = std::move(*made);
  }
  const std::string& directory = run.path;
  Result<LogFiles> files =
      directory.empty() ? Result<LogFiles>(LogFiles::none()) : make_log_files(plan, times, directory);
  if (!files) return files.error();
  Result<EventLog> events = EventLog::open(directory, options.json_events);
  if (!events) return events.error();
  if (plan.policy == StartPolicy::gang && !directory.empty()) {
    const std::size_t gone = prune_runs(plan.log_dir, plan.job_id, plan.logs.keep_runs, times.started);
    if (gone > 0 && !options.quiet) log_info("logs.keep_runs: {} older run{} removed", gone, gone == 1 ? "" : "s");
  }

  Job job(plan, options, std::move(agent), std::move(ssh), std::move(*pushed), std::move(*files), std::move(*events));
  JobResult result = job.run();
  times.ended = std::chrono::system_clock::now();
  if (!directory.empty()) keep_record(directory, plan, times, result);
  job.dismiss(result);
  return result;
}

}  // namespace llmlaunch::launcher
