/// \file
/// A fork whose child is born in a cgroup. Moving a process that is there already, by a write to cgroup.procs, makes
/// the kernel wait for all of its cores (10 ms and more, and every fork of the machine waits with it); a birth does
/// not.
#pragma once

#include <sys/types.h>

namespace llmlaunch::launcher::agent {

struct CgroupFork {
  pid_t pid = -1;       ///< as fork() returns it
  bool inside = false;  ///< in the child, too: false where the kernel (before 5.7) or a permission does not allow it
};

/// `directory`: a descriptor of the cgroup's directory; negative: an ordinary fork. The child may only do what is safe
/// between fork and exec: it is not known to the C library as a new thread. errno is set when pid is negative.
CgroupFork fork_in_cgroup(int directory);

}  // namespace llmlaunch::launcher::agent
