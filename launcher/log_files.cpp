// The run directory's output files. Written by the output writer's thread alone; blocks as long as the disk does.
#include "launcher/log_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

namespace llmlaunch::launcher {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

Error cannot(const char* what, const std::string& path, int error) {
  return system_error(error, fmt::format("cannot {} {}", what, path));
}

Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return cannot("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return ok;
}

Result<agent::UniqueFd> create_file(const std::string& path) {
  agent::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd) return cannot("create", path, errno);
  return fd;
}

}  // namespace

Result<std::string> make_run_directory(const std::string& log_dir, const std::string& job_id) {
  std::error_code error;
  const std::filesystem::path top = std::filesystem::absolute(log_dir, error);
  if (!error) std::filesystem::create_directories(top, error);
  const char* hint = "choose another place with llmlaunch.log_dir or --log_dir";
  if (error) return system_error(error.value(), fmt::format("cannot create the log directory {}", log_dir), {}, hint);
  std::string directory = (top / job_id).lexically_normal().string();
  if (::mkdir(directory.c_str(), kDirectoryMode) != 0) {
    Error refused = cannot("create", directory, errno);
    refused.hint = errno == EEXIST ? "a run with this job id has been here; each run needs its own" : hint;
    return refused;
  }
  return directory;
}

Result<void> replace_file(const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  const agent::UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd) return cannot("create", beside, errno);
  Result<void> written = write_all(fd.value(), content, beside);
  // A crash of the machine must not leave an empty file under the final name.
  if (written && ::fsync(fd.value()) != 0 && errno != EINVAL && errno != ENOTSUP)
    written = cannot("write", beside, errno);
  if (written && ::rename(beside.c_str(), path.c_str()) != 0) written = cannot("replace", path, errno);
  if (!written) ::unlink(beside.c_str());
  return written;
}

Result<LogFiles> LogFiles::create(std::string directory, std::uint32_t world_size) {
  LogFiles files;
  files.directory_ = std::move(directory);
  files.given_up_.assign(std::size_t{2} * world_size, false);
  for (std::uint64_t key = 0; key < files.given_up_.size(); ++key)
    if (const auto fd = create_file(files.rank_path(key)); !fd) return fd.error();
  Result<agent::UniqueFd> merged = create_file(files.directory_ + "/merged.log");
  if (!merged) return merged.error();
  files.merged_ = std::move(*merged);
  return files;
}

std::string LogFiles::rank_path(std::uint64_t key) const {
  return fmt::format("{}/rank-{:05}.{}", directory_, key / 2, key % 2 == 0 ? "out" : "err");
}

Result<int> LogFiles::rank_fd(std::uint64_t key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    open_.splice(open_.begin(), open_, found->second);
    return found->second->fd.value();
  }
  if (open_.size() >= kMaxOpenRankFiles) {
    by_key_.erase(open_.back().key);
    open_.pop_back();
  }
  const std::string path = rank_path(key);
  agent::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return cannot("open", path, errno);
  open_.push_front({key, std::move(fd)});
  by_key_[key] = open_.begin();
  return open_.front().fd.value();
}

Result<void> LogFiles::failed(Error error) {
  if (first_error_) return ok;
  first_error_ = error;
  return error;
}

Result<void> LogFiles::write_rank(Rank rank, agent::Stream stream, ByteView bytes) {
  const std::uint64_t key = std::uint64_t{2} * number(rank) + (stream == agent::Stream::err ? 1 : 0);
  if (given_up_[key]) return ok;
  const Result<int> fd = rank_fd(key);
  const Result<void> written = fd ? write_all(*fd, as_text(bytes), rank_path(key)) : Result<void>(fd.error());
  if (written) return ok;
  given_up_[key] = true;
  return failed(written.error());
}

Result<void> LogFiles::write_merged(std::string_view lines) {
  if (merged_given_up_) return ok;
  const Result<void> written = write_all(merged_.value(), lines, directory_ + "/merged.log");
  if (written) return ok;
  merged_given_up_ = true;
  return failed(written.error());
}

}  // namespace llmlaunch::launcher
