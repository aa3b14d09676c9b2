// Writing to somebody's terminal. O_NONBLOCK belongs to the open file, which the shell and other programs on the same
// terminal share: set there, it breaks them. So a terminal or pipe is opened once more through /proc and that copy is
// non-blocking; where this is refused, writes are kept so small that a pipe which poll calls writable takes them.
#include "launcher/fd_writer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace llmlaunch::launcher {

FdWriter::FdWriter(int fd, int wake) : fd_(fd), wake_(wake) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return;  // write() will say what is wrong with it
  is_socket_ = S_ISSOCK(info.st_mode);
  never_waits_ = S_ISREG(info.st_mode);
  if (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode)) {
    const std::string path = fmt::format("/proc/self/fd/{}", fd);
    own_.reset(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  }
}

Result<void> FdWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (!never_waits_) {
      pollfd polls[2] = {{target(), POLLOUT, 0}, {wake_, POLLIN, 0}};
      if (::poll(polls, 2, -1) < 0 && errno == EINTR) continue;
      if (polls[0].revents == 0) return make_error(Errc::canceled, "not taken in time");
    }
    const std::size_t size =
        own_ || is_socket_ || never_waits_ ? bytes.size() : std::min<std::size_t>(bytes.size(), PIPE_BUF);
    const ssize_t put = is_socket_ ? ::send(target(), bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : ::write(target(), bytes.data(), size);
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
    } else if (errno == EPIPE || errno == EIO || errno == ENXIO) {  // EIO: the terminal was closed
      return make_error(Errc::closed, "nobody reads it any more");
    } else if (errno != EINTR && errno != EAGAIN) {
      return system_error(errno, "write");
    }
  }
  return ok;
}

}  // namespace llmlaunch::launcher
