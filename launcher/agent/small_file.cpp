// open, read, close. Streams of the standard library would double the agent's size.
#include "launcher/agent/small_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "rendezvous/base/unique_fd.hpp"

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

void make_directories(const std::string& path) {
  for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1))
    ::mkdir(path.substr(0, end).c_str(), 0700);
  ::mkdir(path.c_str(), 0700);
}

}  // namespace llmlaunch::launcher::agent
