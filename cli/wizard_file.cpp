// A new file that takes the name of the old one: nobody sees half a configuration, and nothing is overwritten by
// accident, even when somebody else makes the file meanwhile.
#include "cli/wizard_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "rendezvous/base/replaceable.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::cli {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kNewFile = 0666;  // less the umask

Error is_there(const std::string& path) {
  return make_error(Errc::usage, fmt::format("{} is there already, and is left as it is", path), {},
                    "--force overwrites it, -o names another file");
}

Error not_written(const std::string& path, int error) {
  return system_error(error, "cannot write", path);
}

/// A file that was not there, with the mode of the one at `path`, if there is one.
Result<void> write_new(const std::string& name, const std::string& path, const std::string& text) {
  const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFile);
  if (fd < 0) return not_written(path, errno);
  struct stat old {};
  if (name != path && ::stat(path.c_str(), &old) == 0) ::fchmod(fd, old.st_mode & 07777);
  int failed = write_all(fd, text);
  if (failed == 0 && ::fsync(fd) != 0) failed = errno;
  ::close(fd);
  if (failed == 0) return ok;
  ::unlink(name.c_str());
  return not_written(path, failed);
}

/// Gives the new file `beside` its name, unless that is taken: EEXIST. Not all file systems can: vfat, exfat and some
/// network mounts have no hard links, and of those some do not know RENAME_NOREPLACE either. There the text is
/// written once more, under its own name, where a crash of the machine may leave half of it.
Result<void> take_free_name(const std::string& beside, const std::string& name, const std::string& text) {
  if (::link(beside.c_str(), name.c_str()) == 0) return ok;
  if (errno == EEXIST) return not_written(name, errno);
  if (::renameat2(AT_FDCWD, beside.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE) == 0) return ok;
  if (errno == EEXIST) return not_written(name, errno);
  return write_new(name, name, text);
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
  const auto taken = replaceable_name(path);
  if (!taken) return taken.error();
  std::error_code failed;
  const fs::path target = *taken;
  if (make_directories && target.has_parent_path()) fs::create_directories(target.parent_path(), failed);
  const std::string name = target.string(), beside = fmt::format("{}.tmp.{}", name, ::getpid());
  auto written = write_new(beside, name, text);
  if (!written) return written;
  if (!overwrite)
    written = take_free_name(beside, name, text);
  else if (::rename(beside.c_str(), name.c_str()) != 0)
    written = not_written(name, errno);
  if (!overwrite || !written) ::unlink(beside.c_str());
  if (!written && written.error().code == std::errc::file_exists) return is_there(path);
  return written;
}

}  // namespace llmlaunch::cli
