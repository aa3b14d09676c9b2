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

Result<std::unique_ptr<const StillFile>> StillFile::open(const std::string& path) {
  const auto descriptor = open_to_read(path);
  if (!descriptor) return descriptor.error();
  std::unique_ptr<StillFile> file(new StillFile(path, *descriptor));
  if (::fstat(file->descriptor_, &file->begun_) != 0) return system_error(errno, "stat", path);
  return std::unique_ptr<const StillFile>(std::move(file));
}

StillFile::~StillFile() {
  ::close(descriptor_);
}

Result<void> StillFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(errno, "read", path_);
    if (count == 0) {
      if (auto same = check_unchanged(); !same) return same;
      return make_error(
          Errc::invalid_config,
          fmt::format("is truncated: nothing can be read behind {} of {}", offset, counted(size(), "byte")), path_);
    }
    into = into.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return ok;
}

Result<void> StillFile::check_unchanged() const {
  struct stat now {};
  if (::fstat(descriptor_, &now) != 0) return system_error(errno, "stat", path_);
  std::string what;
  if (now.st_size != begun_.st_size) {
    what = fmt::format("has {} now, and had {} when the job began",
                       counted(static_cast<std::uint64_t>(now.st_size), "byte"), size());
  } else if (now.st_mtim.tv_sec != begun_.st_mtim.tv_sec || now.st_mtim.tv_nsec != begun_.st_mtim.tv_nsec) {
    what = "was written to after the job had begun";
  } else {
    return ok;
  }
  return make_error(Errc::invalid_config, what, path_,
                    "a job's images are read while it runs: leave them as they are, and start it again");
}

std::string StillFile::identity() const {
  return fmt::format("{}:{}:{}:{}.{:09}", begun_.st_dev, begun_.st_ino, begun_.st_size, begun_.st_mtim.tv_sec,
                     begun_.st_mtim.tv_nsec);
}

}  // namespace llmlaunch::trainer
