/// \file
/// A file that has no name from the moment it is made, so that it goes with whoever holds it, however that ends. The
/// agent's spool and the head's gathered output are such files.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

/// For reading and writing, below `directory`. Invalid, with errno set, when it cannot be made.
inline UniqueFd nameless_file(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd) return fd;
  // Some file systems (NFS) know no such files: one whose name is taken away at once.
  std::string name = directory + "/llmlaunch-XXXXXX";
  fd.reset(::mkostemp(name.data(), O_CLOEXEC));
  if (fd && ::unlink(name.c_str()) != 0) fd.reset();
  return fd;
}

}  // namespace llmlaunch::launcher::agent
