// Which run directories go. A mistake here removes somebody's files, so everything that is not surely ours stays.
#include "launcher/run_directories.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kDirectoryMode = 0700;
// Ours has less than 300 bytes for a rank.
constexpr off_t kMaxRecordBytes = 64 << 20;

/// "20261124-101530-4f2a0b1c", as job ids are.
bool is_job_id(const std::string& name) {
  constexpr std::string_view kShape = "dddddddd-dddddd-xxxxxxxx";
  if (name.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    const bool fits = kShape[i] == '-' ? c == '-' : kShape[i] == 'd' ? std::isdigit(c) != 0 : std::isxdigit(c) != 0;
    if (!fits) return false;
  }
  return true;
}

struct OldRun {
  std::string name;
  std::chrono::system_clock::time_point ended;
};

UniqueFd hold(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd && ::flock(fd.value(), LOCK_SH | LOCK_NB) != 0) fd.reset();
  return fd;
}

bool nobody_holds(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return fd && ::flock(fd.value(), LOCK_EX | LOCK_NB) == 0;
}

/// Nothing for what is no run of ours, or still runs.
std::optional<OldRun> ended_run(const fs::path& directory) {
  const std::string name = directory.filename().string();
  const fs::path record = directory / "job.json";
  std::error_code failed;
  if (!is_job_id(name) || !fs::is_directory(fs::symlink_status(directory, failed))) return std::nullopt;
  struct stat info {};
  const auto text = run_record(directory.string());
  if (!text || ::lstat(record.c_str(), &info) != 0) return std::nullopt;
  const RecordedRun said = recorded_run(*text, name);
  if (said == RecordedRun::none) return std::nullopt;
  if (said == RecordedRun::begun && !nobody_holds(directory.string())) return std::nullopt;
  const auto ended_at = std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec);
  return OldRun{name, std::chrono::system_clock::time_point(ended_at)};
}

}  // namespace

Result<RunDirectory> make_run_directory(const std::string& log_dir, const std::string& job_id) {
  std::error_code error;
  const fs::path top = fs::absolute(log_dir, error);
  if (!error) fs::create_directories(top, error);
  const char* hint = "choose another place with llmlaunch.log_dir or --log-dir";
  if (error) return system_error(error.value(), fmt::format("cannot create the log directory {}", log_dir), {}, hint);
  std::string directory = (top / job_id).lexically_normal().string();
  if (::mkdir(directory.c_str(), kDirectoryMode) != 0) {
    const int refusal = errno;
    return system_error(refusal, fmt::format("cannot create {}", directory), {},
                        refusal == EEXIST ? "a run with this job id has been here; each run needs its own" : hint);
  }
  UniqueFd held = hold(directory);
  return RunDirectory{std::move(directory), std::move(held)};
}

std::optional<std::string> run_record(const std::string& directory) {
  const fs::path record = fs::path(directory) / "job.json";
  struct stat info {};
  if (::lstat(record.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > kMaxRecordBytes)
    return std::nullopt;
  std::ostringstream text;
  text << std::ifstream(record, std::ios::binary).rdbuf();
  return text.str();
}

bool run_is_held(const std::string& directory) {
  return !nobody_holds(directory);
}

RecordedRun recorded_run(std::string_view text, std::string_view job_id) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("llmlaunch_version")) return RecordedRun::none;
  const auto id = json.find("job_id");
  if (id == json.end() || !id->is_string() || id->get_ref<const std::string&>() != job_id) return RecordedRun::none;
  const auto ended = json.find("ended_at");
  return ended != json.end() && ended->is_string() ? RecordedRun::ended : RecordedRun::begun;
}

std::size_t prune_runs(const std::string& log_dir, const std::string& current, const RunsKept& kept,
                       std::chrono::system_clock::time_point now) {
  if (kept.all()) return 0;
  std::vector<OldRun> runs;
  std::error_code failed;
  for (fs::directory_iterator entry(log_dir, failed), end; !failed && entry != end; entry.increment(failed)) {
    if (entry->path().filename() == current) continue;
    if (auto run = ended_run(entry->path())) runs.push_back(std::move(*run));
  }
  if (failed) log_warning("logs.keep_runs: cannot read {}: {}", log_dir, failed.message());
  // The newest first. Names tell seconds, and short runs have several in one.
  std::sort(runs.begin(), runs.end(), [](const OldRun& a, const OldRun& b) { return a.ended > b.ended; });
  std::size_t removed = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const bool stays = kept.count ? i + 1 < *kept.count : now - runs[i].ended <= *kept.age;
    if (stays) continue;
    fs::remove_all(fs::path(log_dir) / runs[i].name, failed);
    if (failed)
      log_warning("logs.keep_runs: cannot remove {}/{}: {}", log_dir, runs[i].name, failed.message());
    else
      ++removed;
  }
  return removed;
}

}  // namespace llmlaunch::launcher
