// The lock of a folder or a file, by flock(2): it goes with the process, also with one that is killed, and NFS knows it
// on other hosts. Called by rank 0 at the start of a job.
#include "trainer/output_lock.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <utility>

#include "rendezvous/base/write_all.hpp"
#include "trainer/files.hpp"

namespace llmlaunch::trainer {
namespace {

/// "pid 123 on gpu01, since …", or nothing where it is not written yet.
std::string holder_in(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t size = ::pread(descriptor, text.data(), text.size(), 0);
  const std::string line(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  return line.substr(0, line.find('\n'));
}

std::string lock_file(const std::string& folder) {
  return (std::filesystem::path(folder) / kOutputLock).string();
}

}  // namespace

bool lock_alone(int descriptor) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) return true;
  return ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

OutputLock::OutputLock(int descriptor, std::string folder, std::string host, std::string flag)
    : descriptor_(descriptor), folder_(std::move(folder)), host_(std::move(host)), flag_(std::move(flag)) {}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      folder_(std::move(other.folder_)),
      host_(std::move(other.host_)),
      flag_(std::move(other.flag_)) {}

OutputLock& OutputLock::operator=(OutputLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(folder_, other.folder_);
  std::swap(host_, other.host_);
  std::swap(flag_, other.flag_);
  return *this;
}

OutputLock::~OutputLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<OutputLock> OutputLock::take(const std::string& folder, const std::string& host, const std::string& flag) {
  OutputLock lock(::open(lock_file(folder).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666), folder, host, flag);
  if (!lock.holds()) return OutputLock();
  if (!lock_alone(lock.descriptor_)) {
    const std::string holder = holder_in(lock.descriptor_);
    return make_error(Errc::locked, fmt::format("another job is at work here{}{}", holder.empty() ? "" : ": ", holder),
                      folder, fmt::format("wait for its end, or give this one another {}", flag));
  }
  const std::string line =
      fmt::format("pid {} on {}, since {:%Y-%m-%d %H:%M:%S}Z\n", ::getpid(), host, fmt::gmtime(std::time(nullptr)));
  // The lock holds without these words, too: a full disk is found by who writes a checkpoint.
  if (::ftruncate(lock.descriptor_, 0) == 0) (void)llmlaunch::write_all(lock.descriptor_, line);
  return lock;
}

Result<void> OutputLock::keep() {
  if (!holds()) return ok;
  struct stat mine {
  }, there{};
  const bool found = ::fstat(descriptor_, &mine) == 0 && ::stat(lock_file(folder_).c_str(), &there) == 0;
  if (found && mine.st_dev == there.st_dev && mine.st_ino == there.st_ino) return ok;
  if (auto made = make_folders(folder_); !made) return made;
  auto again = take(folder_, host_, flag_);
  if (!again) return again.error();
  if (again->holds()) *this = std::move(*again);
  return ok;
}

}  // namespace llmlaunch::trainer
