// open, read, close. Streams of the standard library would double the agent's size.
#include "launcher/agent/small_file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "launcher/agent/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

std::string small_file(const std::string& path, std::size_t max_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char piece[4096];
  while (fd && text.size() < max_bytes) {
    const ssize_t got = ::read(fd.value(), piece, std::min(sizeof(piece), max_bytes - text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(piece, static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace llmlaunch::launcher::agent
