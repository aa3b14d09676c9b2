// Names that a finished file may take. Called before anything is written there.
#include "rendezvous/base/replaceable.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>
#include <system_error>

namespace llmlaunch {
namespace {

/// As many as the kernel follows.
constexpr int kMaxLinks = 40;

const char* kind_of(mode_t mode) {
  if (S_ISFIFO(mode)) return "pipe";
  if (S_ISSOCK(mode)) return "socket";
  return "device";
}

}  // namespace

Result<std::string> replaceable_name(const std::string& path) {
  namespace fs = std::filesystem;
  struct stat found {};
  // By stat first: what /proc/self/fd/1 leads to has no name that could be followed.
  if (::stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) {
    return make_error(Errc::invalid_config, fmt::format("is a {} and not a file", kind_of(found.st_mode)), path,
                      "name a file; it is written beside that name first, and would take the place of what is there");
  }
  fs::path name = path;
  std::error_code failed;
  for (int links = 0; links < kMaxLinks && fs::is_symlink(fs::symlink_status(name, failed)); ++links) {
    const fs::path target = fs::read_symlink(name, failed);
    if (failed) break;
    name = name.parent_path() / target;  // an absolute target stays as it is
  }
  return name.string();
}

}  // namespace llmlaunch
