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

namespace llmlaunch::trainer {
namespace {

/// "pid 123 on gpu01, since …", or nothing where it is not written yet.
std::string holder_in(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t size = ::pread(descriptor, text.data(), text.size(), 0);
  const std::string line(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  return line.substr(0, line.find('\n'));
}

}  // namespace

bool lock_alone(int descriptor) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) return true;
  return ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

OutputLock::OutputLock(OutputLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputLock& OutputLock::operator=(OutputLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

OutputLock::~OutputLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<OutputLock> OutputLock::take(const std::string& folder, const std::string& host, const std::string& flag) {
  const std::string path = (std::filesystem::path(folder) / kOutputLock).string();
  OutputLock lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
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

}  // namespace llmlaunch::trainer
