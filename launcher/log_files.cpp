// The run directory's output files. Written by the output writer's thread alone; blocks as long as the disk does.
#include "launcher/log_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr mode_t kFileMode = 0600;

Error cannot(const char* what, const std::string& path, int error) {
  return system_error(error, fmt::format("cannot {} {}", what, path));
}

Result<void> write_text(int fd, std::string_view bytes, const std::string& path) {
  const int failed = write_all(fd, bytes);
  return failed == 0 ? Result<void>(ok) : Result<void>(cannot("write", path, failed));
}

Result<UniqueFd> create_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd) return cannot("create", path, errno);
  return fd;
}

}  // namespace

Result<void> replace_file(const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  const UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd) return cannot("create", beside, errno);
  Result<void> written = write_text(fd.value(), content, beside);
  // A crash of the machine must not leave an empty file under the final name.
  if (written && ::fsync(fd.value()) != 0 && errno != EINVAL && errno != ENOTSUP)
    written = cannot("write", beside, errno);
  if (written && ::rename(beside.c_str(), path.c_str()) != 0) written = cannot("replace", path, errno);
  if (!written) ::unlink(beside.c_str());
  return written;
}

Result<LogFiles> LogFiles::create(std::string directory, std::uint32_t world_size, const LogSettings& settings) {
  std::vector<std::string> stems;
  for (std::uint32_t rank = 0; rank < world_size; ++rank) stems.push_back(fmt::format("rank-{:05}", rank));
  return create(std::move(directory), std::move(stems), settings);
}

Result<LogFiles> LogFiles::create(std::string directory, std::vector<std::string> stems, const LogSettings& settings) {
  LogFiles files;
  files.directory_ = std::move(directory);
  files.stems_ = std::move(stems);
  files.keeps_ranks_ = settings.per_rank;
  files.keeps_merged_ = settings.merged;
  files.max_bytes_ = settings.max_file_bytes;
  files.keep_ = settings.keep;
  const std::uint64_t merged = std::uint64_t{2} * files.stems_.size();
  files.given_up_.assign(merged + 1, false);
  files.sizes_.assign(merged + 1, 0);
  files.rotations_.assign(merged + 1, 0);
  for (std::uint64_t key = 0; key <= merged; ++key) {
    const bool wanted = key == merged ? files.keeps_merged_ : files.keeps_ranks_;
    if (!wanted) continue;
    if (const auto fd = create_file(files.path_of(key)); !fd) return fd.error();
  }
  return files;
}

LogFiles LogFiles::none() {
  LogFiles files;
  files.keeps_ranks_ = files.keeps_merged_ = false;
  return files;
}

std::string LogFiles::place() const {
  if (keeps_merged_) return directory_ + "/merged.log";
  return keeps_ranks_ ? directory_ + "/rank-*.out and .err" : "";
}

std::string LogFiles::path_of(std::uint64_t key) const {
  if (key + 1 == given_up_.size()) return directory_ + "/merged.log";
  return fmt::format("{}/{}.{}", directory_, stems_[key / 2], key % 2 == 0 ? "out" : "err");
}

Result<int> LogFiles::fd_of(std::uint64_t key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    open_.splice(open_.begin(), open_, found->second);
    return found->second->fd.value();
  }
  if (open_.size() >= kMaxOpenRankFiles) forget(open_.back().key);
  const std::string path = path_of(key);
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return cannot("open", path, errno);
  open_.push_front({key, std::move(fd)});
  by_key_[key] = open_.begin();
  return open_.front().fd.value();
}

void LogFiles::forget(std::uint64_t key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return;
  open_.erase(found->second);
  by_key_.erase(found);
}

Result<void> LogFiles::failed(Error error) {
  if (first_error_) return ok;
  first_error_ = error;
  return error;
}

Result<void> LogFiles::write_rank(Rank rank, agent::Stream stream, ByteView bytes) {
  if (!keeps_ranks_) return ok;
  return write(std::uint64_t{2} * number(rank) + (stream == agent::Stream::err ? 1 : 0), as_text(bytes));
}

Result<void> LogFiles::write_merged(std::string_view lines) {
  if (!keeps_merged_) return ok;
  return write(given_up_.size() - 1, lines);
}

Result<void> LogFiles::write(std::uint64_t key, std::string_view bytes) {
  if (given_up_[key]) return ok;
  const Result<void> written = write_limited(key, bytes);
  if (written) return ok;
  given_up_[key] = true;
  return failed(written.error());
}

// --- the size limit --------------------------------------------------------------------------------------------------

Result<void> LogFiles::write_limited(std::uint64_t key, std::string_view bytes) {
  while (!bytes.empty()) {
    std::size_t size = bytes.size();
    if (max_bytes_ > 0 && sizes_[key] + size > max_bytes_) {
      const std::size_t room = max_bytes_ - sizes_[key];
      const std::size_t last = room == 0 ? bytes.npos : bytes.rfind('\n', room - 1);
      // Nowhere to part it: the next file begins with what is at hand, which may be the rest of a line; a line that is
      // as long as a file is cut.
      size = last != bytes.npos ? last + 1 : sizes_[key] == 0 ? room : 0;
    }
    if (size > 0) {
      const Result<int> fd = fd_of(key);
      const Result<void> written = fd ? write_text(*fd, bytes.substr(0, size), path_of(key)) : Result<void>(fd.error());
      if (!written) return written;
      sizes_[key] += size;
      bytes.remove_prefix(size);
    }
    if (bytes.empty()) break;
    if (const Result<void> rotated = rotate(key); !rotated) return rotated;
  }
  return ok;
}

Result<void> LogFiles::rotate(std::uint64_t key) {
  forget(key);
  const std::string path = path_of(key);
  std::uint32_t& rotations = rotations_[key];
  if (rotations == keep_ && !std::exchange(noticed_, true)) {
    notice_ = fmt::format(
        "{} has reached {} {} times: from here on the oldest part of such a file is removed (llmlaunch.logs: "
        "max_file_bytes, keep)",
        path, bytes_in_words(max_bytes_), keep_ + 1);
  }
  for (std::uint32_t number = std::min(rotations, keep_ - 1); keep_ > 0 && number > 0; --number) {
    const std::string from = fmt::format("{}.{}", path, number), to = fmt::format("{}.{}", path, number + 1);
    if (::rename(from.c_str(), to.c_str()) != 0) return cannot("rename", from, errno);
  }
  const std::string first = path + ".1";
  if (keep_ > 0 && ::rename(path.c_str(), first.c_str()) != 0) return cannot("rename", path, errno);
  if (keep_ == 0 && ::unlink(path.c_str()) != 0) return cannot("remove", path, errno);
  rotations = std::min(rotations + 1, keep_);
  sizes_[key] = 0;
  const auto created = create_file(path);
  if (!created) return created.error();
  return ok;
}

}  // namespace llmlaunch::launcher
