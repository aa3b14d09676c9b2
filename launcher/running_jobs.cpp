// From a word to a run directory and its pass. A directory tells by its lock whether its head lives, by its job.json
// how the job has ended.
#include "launcher/running_jobs.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "launcher/run_directories.hpp"
#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::string_view kLatest = "latest";
// Of jobs named in a message.
constexpr std::size_t kNamedJobs = 8;
// For a job whose store is closed.
constexpr auto kEndIsWritten = 2000ms;
constexpr auto kLookAgainForEnd = 50ms;

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

bool has_pass(const std::string& directory) {
  return is_there(fs::path(directory) / kObserverPassFile);
}

// Others' jobs are not for us: what lies in their directories they may have made to be found.
bool is_ours(const fs::path& directory) {
  struct stat info {};
  return ::stat(directory.c_str(), &info) == 0 && info.st_uid == ::geteuid();
}

std::string job_of(const std::string& directory) {
  fs::path path = fs::path(directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

std::string what_runs(const std::string& log_dir) {
  const std::vector<std::string> jobs = running_jobs(log_dir);
  if (jobs.empty()) return fmt::format("no job runs below {}; --log-dir names another place", log_dir);
  const std::size_t shown = std::min(jobs.size(), kNamedJobs);
  std::string text = fmt::format("running below {}: {}", log_dir,
                                 fmt::join(jobs.begin(), jobs.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (jobs.size() > shown) text += fmt::format(" and {} more", jobs.size() - shown);
  return text;
}

// "job J has ended with status 3 at 2026-11-24T10:15:30.000Z"
std::string words_of_end(const std::string& directory) {
  const auto record = nlohmann::json::parse(run_record(directory).value_or(""), nullptr, false);
  std::string text = fmt::format("job {} has ended", job_of(directory));
  if (!record.is_object()) return text;
  if (const auto status = record.find("exit_status"); status != record.end() && status->is_number_integer())
    text += fmt::format(" with status {}", status->get<std::int64_t>());
  if (const auto at = record.find("ended_at"); at != record.end() && at->is_string())
    text += " at " + at->get<std::string>();
  return text;
}

Error not_running(std::string what, const std::string& log_dir) {
  return make_error(Errc::unreachable, std::move(what), {}, what_runs(log_dir));
}

Error why_not(const std::string& directory, const std::string& log_dir) {
  const std::string job = job_of(directory);
  switch (run_state(directory)) {
    case RunState::ended: return not_running(words_of_end(directory), log_dir);
    case RunState::died:
      return not_running(fmt::format("job {} no longer runs: its llmlaunch ended without a word (SIGKILL, or the "
                                     "machine went down)",
                                     job),
                         log_dir);
    case RunState::no_run: return not_running(fmt::format("{} is no run directory", directory), log_dir);
    case RunState::no_pass:
    case RunState::serves: break;
  }
  return make_error(Errc::unreachable,
                    fmt::format("job {} serves no store now: it begins or ends at this moment, or is an exec", job), {},
                    "try again in a moment");
}

// Of those that are over the last one; nothing when there is none.
std::string last_run(const std::string& log_dir) {
  std::pair last(fs::file_time_type::min(), std::string());
  std::error_code failed;
  for (fs::directory_iterator entry(log_dir, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string directory = entry->path().string();
    if (!is_ours(directory)) continue;
    if (const RunState state = run_state(directory); state != RunState::ended && state != RunState::died) continue;
    std::error_code gone;
    const auto at = fs::last_write_time(entry->path() / "job.json", gone);
    if (!gone) last = std::max(last, {at, directory});
  }
  return last.second;
}

Result<std::string> directory_of(const std::string& log_dir, const std::string& name) {
  if (name == kLatest) {
    std::error_code unreadable;
    const fs::directory_iterator look(log_dir, unreadable);
    if (unreadable)
      return make_error(Errc::unreachable,
                        fmt::format("no job can be looked for below {}: {}", log_dir, unreadable.message()), {},
                        "--log-dir names another place; a run directory's path does, too");
    const std::vector<std::string> jobs = running_jobs(log_dir);
    if (jobs.empty()) {
      const std::string last = last_run(log_dir);
      return make_error(Errc::unreachable,
                        fmt::format("no job runs below {}{}", log_dir,
                                    last.empty() ? "" : "; the last: " + why_not(last, log_dir).what),
                        {}, "--log-dir names another place; a run directory's path does, too");
    }
    return (fs::path(log_dir) / jobs.front()).string();
  }
  const bool is_path = name.find('/') != name.npos || name == "." || name == "..";
  if (!is_path && is_there(fs::path(log_dir) / name)) return (fs::path(log_dir) / name).string();
  if (is_path && is_there(name)) {
    std::error_code failed;
    const fs::path whole = fs::canonical(name, failed);  // "." is a job, too
    return failed ? name : whole.string();
  }
  return not_running(is_path ? fmt::format("there is no run directory {}", name)
                             : fmt::format("there is no job {} below {}", name, log_dir),
                     log_dir);
}

}  // namespace

Error died_without_a_word(const RunningJob& job) {
  return make_error(Errc::unreachable,
                    fmt::format("job {} ended without a word: its llmlaunch, process {}, was killed, or the "
                                "machine went down",
                                job.pass.job_id, job.pass.pid));
}

Error why_closed(const RunningJob& job, Error error) {
  if (error.code != Errc::closed) return error;
  RunState state = run_state(job.directory);
  // Its head takes the pass away and closes the store before it writes down how the job ended.
  const auto is_ending = [&state] { return state == RunState::serves || state == RunState::no_pass; };
  for (auto waited = 0ms; is_ending() && waited < kEndIsWritten; waited += kLookAgainForEnd) {
    std::this_thread::sleep_for(kLookAgainForEnd);
    state = run_state(job.directory);
  }
  switch (state) {
    case RunState::died: return died_without_a_word(job);
    case RunState::ended:
    case RunState::no_pass: return make_error(Errc::unreachable, words_of_end(job.directory));
    case RunState::no_run:
    case RunState::serves: break;
  }
  return error;
}

RunState run_state(const std::string& directory) {
  const auto record = run_record(directory);
  if (!record) return RunState::no_run;
  const RecordedRun said = recorded_run(*record, job_of(directory));
  if (said == RecordedRun::none) return RunState::no_run;
  if (said == RecordedRun::ended) return RunState::ended;
  if (!run_is_held(directory)) return RunState::died;
  return has_pass(directory) ? RunState::serves : RunState::no_pass;
}

std::vector<std::string> running_jobs(const std::string& log_dir) {
  std::vector<std::pair<fs::file_time_type, std::string>> found;
  std::error_code failed;
  for (fs::directory_iterator entry(log_dir, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string directory = entry->path().string();
    if (!is_ours(directory) || !has_pass(directory) || run_state(directory) != RunState::serves) continue;
    std::error_code gone;
    const auto since = fs::last_write_time(entry->path() / kObserverPassFile, gone);
    if (!gone) found.emplace_back(since, entry->path().filename().string());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> names;
  for (auto& [since, name] : found) names.push_back(std::move(name));
  return names;
}

Result<RunningJob> find_running_job(const std::string& named_log_dir, const std::string& name) {
  const auto directory = directory_of(named_log_dir, name);
  if (!directory) return directory.error();
  // Whose neighbours are worth naming when it does not run.
  const std::string log_dir = fs::path(*directory).parent_path().string();
  auto pass = read_observer_pass(*directory);
  if (!pass && pass.error().code != Errc::not_found) return pass.error();
  if (!pass) return why_not(*directory, log_dir);
  // The lock of a shared file system may not reach here, and its address is of that machine.
  if (const std::string here = own_host_name(); pass->head != here) {
    return make_error(Errc::unreachable,
                      fmt::format("job {} is run by llmlaunch on {}, and this is {}", pass->job_id, pass->head, here),
                      {}, fmt::format("look into it there: ssh {} llmlaunch store …", pass->head));
  }
  if (run_state(*directory) != RunState::serves) return why_not(*directory, log_dir);
  return RunningJob{*directory, std::move(*pass)};
}

}  // namespace llmlaunch::launcher
