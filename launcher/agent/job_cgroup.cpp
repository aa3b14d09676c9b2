// Files below /sys/fs/cgroup. Every failure here means "not to be had" and has the process groups to fall back on.
#include "launcher/agent/job_cgroup.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "launcher/agent/left_cgroups.hpp"
#include "launcher/agent/small_file.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kMaxKernelTextBytes = 1u << 20;  // a host with thousands of mounts, or of pids
constexpr std::size_t kMaxNameBytes = 200;             // of 255 for one file name
// cgroup.procs is read again until nobody new is in it; a fork bomb may need several rounds.
constexpr int kMaxKillRounds = 1000;

std::vector<std::string_view> words_of(std::string_view line, char between) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::string_view word = line.substr(0, line.find(between));
    line.remove_prefix(std::min(word.size() + 1, line.size()));
    words.push_back(word);
  }
  return words;
}

}  // namespace

std::string own_cgroup_directory(std::string_view cgroup_text, std::string_view mounts_text) {
  std::string_view own;
  for (const std::string_view line : words_of(cgroup_text, '\n'))
    if (line.starts_with("0::/")) own = line.substr(3);
  if (own.empty()) return {};
  for (const std::string_view line : words_of(mounts_text, '\n')) {
    // 36 35 98:0 /root /mount/point options … - type source options
    const std::vector<std::string_view> words = words_of(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 2 || dash[1] != "cgroup2") continue;
    const std::string_view root = words[3] == "/" ? std::string_view() : words[3];
    const bool inside = own.starts_with(root) && (own.size() == root.size() || own[root.size()] == '/');
    if (!inside || words[4].find('\\') != words[4].npos) continue;  // a mount point with blanks is nobody's
    const std::string_view below = own.substr(root.size());
    return std::string(words[4]) + std::string(below == "/" ? "" : below);
  }
  return {};
}

std::string cgroup_name(std::string_view job_id, std::string_view host) {
  std::string name = std::string(kCgroupPrefix) + std::string(job_id) + "-" + std::string(host);
  for (char& c : name) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    if (!plain) c = '_';
  }
  return name.substr(0, kMaxNameBytes);
}

CgroupPath::CgroupPath() {
  void* page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page != MAP_FAILED) page_ = static_cast<char*>(page);
}

void CgroupPath::set(const std::string& path) {
  if (page_ != nullptr) std::memcpy(page_, path.c_str(), std::min(path.size() + 1, kPageBytes));
}

std::string CgroupPath::value() const {
  return page_ == nullptr ? "" : std::string(page_, ::strnlen(page_, kPageBytes - 1));
}

bool JobCgroup::make(std::string_view job_id, std::string_view host) {
  const std::string own = own_cgroup_directory(small_file("/proc/self/cgroup", kMaxKernelTextBytes),
                                               small_file("/proc/self/mountinfo", kMaxKernelTextBytes));
  if (own.empty()) return false;
  const std::string path = own + "/" + cgroup_name(job_id, host);
  if (path.size() + 1 > kPageBytes) return false;
  ::rmdir(path.c_str());  // left by an earlier try of this job on this host, and empty
  if (::mkdir(path.c_str(), 0755) != 0) return false;
  directory_ = hold_cgroup(path);
  // Another agent took it for one that was left.
  if (!directory_ && ::mkdir(path.c_str(), 0755) == 0) directory_ = hold_cgroup(path);
  path_ = path;
  shared_.set(path);
  entrance_.reset(::open((path + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  return static_cast<bool>(entrance_);
}

void JobCgroup::kill() const {
  kill_cgroup(path_);
}

void JobCgroup::remove() {
  if (path_.empty()) return;
  entrance_.reset();
  directory_.reset();
  remove_cgroup(path_);
  remove_left_cgroups(path_.substr(0, path_.rfind('/')));
}

void kill_cgroup(const std::string& path) {
  if (path.empty()) return;
  const UniqueFd all(::open((path + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC));
  if (all && ::write(all.value(), "1", 1) == 1) return;
  std::string before;
  for (int round = 0; round < kMaxKillRounds; ++round) {  // kernels before 5.14
    const std::string text = small_file(path + "/cgroup.procs", kMaxKernelTextBytes);
    if (text.empty() || text == before) return;
    for (const std::string_view line : words_of(text, '\n'))
      if (const pid_t pid = std::atoi(std::string(line).c_str()); pid > 1) ::kill(pid, SIGKILL);
    before = text;
  }
}

void remove_cgroup(const std::string& path) {
  // EBUSY while somebody hangs in the kernel inside: then it stays, empty of threads that run.
  if (!path.empty()) ::rmdir(path.c_str());
}

}  // namespace llmlaunch::launcher::agent
