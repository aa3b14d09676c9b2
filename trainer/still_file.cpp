// Reads of a file at its places, and looks at whether it is still the one that was opened. Not by mmap: a file that
// somebody cuts would end the process with SIGBUS, and not with its name.
#include "trainer/still_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "trainer/files.hpp"

namespace llmlaunch::trainer {
namespace {

bool is_same_time(const struct timespec& one, const struct timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

Result<std::unique_ptr<const StillFile>> StillFile::open(const std::string& path) {
  auto descriptor = open_to_read(path);
  if (!descriptor) return descriptor.error();
  std::unique_ptr<StillFile> file(new StillFile(path, std::move(*descriptor)));
  if (::fstat(file->descriptor_.value(), &file->opened_) != 0) return system_error(errno, "stat", path);
  file->unchanged_since_ = file->opened_.st_mtim;
  return std::unique_ptr<const StillFile>(std::move(file));
}

Result<void> StillFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count = ::pread(descriptor_.value(), into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(errno, "read", path_);
    if (count == 0) return ends_at(offset);
    into = into.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return ok;
}

Error StillFile::changed(const std::string& what) const {
  return make_error(Errc::invalid_config, what, path_,
                    "a job's images are read while it runs: leave them as they are, and start it again");
}

Error StillFile::has_size(std::uint64_t bytes) const {
  return changed(fmt::format("has {} now, and had {} when the job began", counted(bytes, "byte"), size()));
}

Error StillFile::ends_at(std::uint64_t offset) const {
  struct stat now {};
  if (::fstat(descriptor_.value(), &now) != 0) return system_error(errno, "stat", path_);
  if (now.st_size != opened_.st_size) return has_size(static_cast<std::uint64_t>(now.st_size));
  return make_error(Errc::invalid_config,
                    fmt::format("is truncated: nothing can be read behind {} of {}", offset, counted(size(), "byte")),
                    path_);
}

Result<void> StillFile::check_unchanged(const HasSameBytes& has_same_bytes) const {
  const std::lock_guard lock(mutex_);  // who comes meanwhile hears what the first one finds
  struct stat now {};
  if (::fstat(descriptor_.value(), &now) != 0) return system_error(errno, "stat", path_);
  if (now.st_size != opened_.st_size) return has_size(static_cast<std::uint64_t>(now.st_size));
  if (is_same_time(now.st_mtim, unchanged_since_)) return ok;
  const Result<bool> same = has_same_bytes ? has_same_bytes() : Result<bool>(false);
  if (!same) return same.error();
  if (!*same) return changed("was written to after the job had begun");
  unchanged_since_ = now.st_mtim;  // one that is written to during that has a later time at the next look
  return ok;
}

std::string StillFile::identity() const {
  return fmt::format("{}:{}:{}:{}.{:09}", opened_.st_dev, opened_.st_ino, opened_.st_size, opened_.st_mtim.tv_sec,
                     opened_.st_mtim.tv_nsec);
}

}  // namespace llmlaunch::trainer
