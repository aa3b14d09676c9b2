// flock and rmdir; see left_cgroups.hpp. What cannot be removed is left to the next one.
#include "launcher/agent/left_cgroups.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

#include <string_view>
#include <vector>

namespace llmlaunch::launcher::agent {
namespace {

bool is_name_of_job(std::string_view name) {
  if (!name.starts_with(kCgroupPrefix)) return false;
  name.remove_prefix(kCgroupPrefix.size());
  return !name.empty() && name.front() >= '0' && name.front() <= '9';
}

}  // namespace

UniqueFd hold_cgroup(const std::string& path) {
  UniqueFd held(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (held && ::flock(held.value(), LOCK_EX | LOCK_NB) != 0) held.reset();
  return held;
}

void remove_left_cgroups(const std::string& directory) {
  DIR* entries = ::opendir(directory.c_str());
  if (entries == nullptr) return;
  std::vector<std::string> found;
  while (const dirent* entry = ::readdir(entries))
    if (is_name_of_job(entry->d_name)) found.push_back(directory + "/" + entry->d_name);
  ::closedir(entries);
  for (const std::string& path : found) {
    const UniqueFd held = hold_cgroup(path);
    if (held) ::rmdir(path.c_str());  // EBUSY while somebody is inside
  }
}

}  // namespace llmlaunch::launcher::agent
