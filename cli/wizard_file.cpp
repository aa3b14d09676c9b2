// A new file and link(2) or rename(2): nobody sees half a configuration, and nothing is overwritten by accident, even
// when somebody else makes the file meanwhile.
#include "cli/wizard_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace llmlaunch::cli {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kNewFile = 0666;  // less the umask

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(errno, "cannot write", path);
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return ok;
}

Error is_there(const std::string& path) {
  return make_error(Errc::usage, fmt::format("{} is there already, and is left as it is", path), {},
                    "--force overwrites it, -o names another file");
}

Result<void> write_beside(const std::string& beside, const std::string& path, const std::string& text) {
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFile);
  if (fd < 0) return system_error(errno, "cannot write", path);
  struct stat old {};
  if (::stat(path.c_str(), &old) == 0) ::fchmod(fd, old.st_mode & 07777);
  auto written = write_all(fd, text, path);
  if (written && ::fsync(fd) != 0) written = system_error(errno, "cannot write", path);
  ::close(fd);
  return written;
}

}  // namespace

bool file_exists(const std::string& path) {
  struct stat found {};
  return path != "-" && ::lstat(path.c_str(), &found) == 0;
}

Result<void> write_whole_file(const std::string& path, const std::string& text, bool overwrite, bool make_directories) {
  if (path == "-") {
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return ok;
    return make_error(Errc::io, "the configuration could not be written to stdout");
  }
  if (!overwrite && file_exists(path)) return is_there(path);
  std::error_code failed;
  const fs::path target = fs::is_symlink(path, failed) ? fs::weakly_canonical(path, failed) : fs::path(path);
  if (make_directories && target.has_parent_path()) fs::create_directories(target.parent_path(), failed);
  const std::string name = target.string(), beside = fmt::format("{}.tmp.{}", name, ::getpid());
  auto written = write_beside(beside, name, text);
  if (written && overwrite && ::rename(beside.c_str(), name.c_str()) != 0)
    written = system_error(errno, "cannot write", name);
  if (written && !overwrite && ::link(beside.c_str(), name.c_str()) != 0)
    written = errno == EEXIST ? is_there(path) : system_error(errno, "cannot write", name);
  if (!overwrite || !written) ::unlink(beside.c_str());
  return written;
}

}  // namespace llmlaunch::cli
