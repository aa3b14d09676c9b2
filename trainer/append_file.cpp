// Appending, all or nothing. Called for what --report_to and --loss_file write.
#include "trainer/append_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "trainer/output_lock.hpp"

namespace llmlaunch::trainer {

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<AppendFile> AppendFile::open(const std::string& path) {
  AppendFile file;
  file.path_ = path;
  file.descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file.descriptor_ < 0) return system_error(errno, "open", path);
  return file;
}

bool AppendFile::lock() const {
  return lock_alone(descriptor_);
}

Result<void> AppendFile::cut(std::uint64_t keep) {
  // EINVAL: it is none that can be cut.
  if (::ftruncate(descriptor_, static_cast<off_t>(keep)) == 0 || errno == EINVAL) return ok;
  return system_error(errno, "truncate", path_);
}

Result<void> AppendFile::append(std::string_view bytes) {
  struct stat info {};
  if (::fstat(descriptor_, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 0) {
    return Error{
        std::make_error_code(std::errc::no_such_file_or_directory), "was removed while it is written", path_, {}};
  }
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);  // a pipe has none
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int reason = errno;
      // Should this fail too, a half record stays; whoever goes on with a file of lines drops it.
      [[maybe_unused]] const int cut = end < 0 ? 0 : ::ftruncate(descriptor_, end);
      return system_error(reason, "write", path_);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return ok;
}

}  // namespace llmlaunch::trainer
