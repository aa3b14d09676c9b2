// The loop around write(2); see write_all.hpp.
#include "rendezvous/base/write_all.hpp"

#include <unistd.h>

#include <cerrno>

namespace llmlaunch {

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    if (put == 0) return EIO;  // of a device that takes nothing: not for ever
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return 0;
}

}  // namespace llmlaunch
