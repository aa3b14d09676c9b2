// The file is below the home directory and not in XDG_RUNTIME_DIR or XDG_STATE_HOME: cron has neither, and a run by
// hand and one by cron must meet at the same file. It is never removed: who waits for a removed file's lock gets one
// that keeps nobody out.
#include "cli/run_lock.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <filesystem>

#include "rendezvous/base/home.hpp"

namespace llmlaunch::cli {
namespace {

namespace fs = std::filesystem;

std::string home_of(const launcher::EnvList& environment) {
  const auto home =
      std::find_if(environment.begin(), environment.end(), [](const auto& entry) { return entry.first == "HOME"; });
  return home_directory(home == environment.end() ? std::string() : home->second);
}

/// FNV-1a: the same for every build and machine.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  return hash;
}

std::string content_of(int fd) {
  std::array<char, 512> text{};
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  std::string content(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  while (content.ends_with('\n')) content.pop_back();
  return content;
}

}  // namespace

RunLock::RunLock(RunLock&& other) noexcept : fd_(other.fd_) {
  other.fd_ = -1;
}

RunLock::~RunLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<RunLock> RunLock::take(const std::string& config, const std::string& job_id,
                              const launcher::EnvList& environment) {
  const std::string home = home_of(environment);
  if (home.empty())
    return make_error(Errc::invalid_config, "--lock: there is no home directory to keep the lock in", {}, "set HOME");
  std::error_code failed;
  const std::string file = config.empty() ? "" : fs::canonical(config, failed).string();
  if (failed) return system_error(failed.value(), "--lock: " + config);
  const fs::path folder = fs::path(home) / ".local" / "state" / "llmlaunch" / "locks";
  fs::create_directories(folder, failed);
  if (failed) return system_error(failed.value(), "--lock: cannot create " + folder.string());
  const std::string path = (folder / fmt::format("{:016x}.lock", hash_of(file))).string();
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return system_error(errno, "--lock: cannot open " + path);
  RunLock lock(fd);
  const std::string name = file.empty() ? "this machine without a configuration" : file;
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return system_error(errno, "--lock: flock of " + path);
    const std::string holder = content_of(fd);
    return make_error(Errc::locked,
                      fmt::format("another run of {} holds the lock{}{}", name, holder.empty() ? "" : ": ", holder));
  }
  const std::time_t now = std::time(nullptr);
  const std::string content =
      fmt::format("pid {}, job {}, since {:%Y-%m-%d %H:%M:%S}Z\n", ::getpid(), job_id, fmt::gmtime(now));
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, content.data(), content.size(), 0) < 0)
    return system_error(errno, "--lock: cannot write " + path);
  return lock;
}

}  // namespace llmlaunch::cli
