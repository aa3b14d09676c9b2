// clone3(2) with CLONE_INTO_CGROUP, and fork() wherever that fails, for whatever reason: its answer is the one to tell.
#include "launcher/agent/cgroup_fork.hpp"

#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace llmlaunch::launcher::agent {
namespace {

// ThreadSanitizer has to see every fork: its own thread is not in the child.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LLMLAUNCH_FORK_BY_LIBRARY
#endif
#endif

pid_t born_in([[maybe_unused]] int directory) {
#if defined(SYS_clone3) && defined(CLONE_INTO_CGROUP) && !defined(LLMLAUNCH_FORK_BY_LIBRARY)
  clone_args how{};
  how.flags = CLONE_INTO_CGROUP;
  how.exit_signal = SIGCHLD;
  how.cgroup = static_cast<__u64>(directory);
  return static_cast<pid_t>(::syscall(SYS_clone3, &how, sizeof(how)));
#else
  return -1;
#endif
}

}  // namespace

CgroupFork fork_in_cgroup(int directory) {
  if (directory >= 0) {
    if (const pid_t pid = born_in(directory); pid >= 0) return {pid, true};
  }
  return {::fork(), false};
}

}  // namespace llmlaunch::launcher::agent
