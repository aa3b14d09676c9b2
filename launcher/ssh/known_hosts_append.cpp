// Adds an accepted key to a known_hosts file, while other launches may do the same. One write of one whole line under a
// lock; nothing that is there is rewritten.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "launcher/ssh/known_hosts.hpp"
#include "launcher/ssh/known_hosts_lines.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr const char* kHint = "name a file that can be written first in llmlaunch.ssh.known_hosts_files";

// Others hold the lock for the time of one short write.
constexpr std::chrono::seconds kLockPatience{5};
constexpr std::chrono::milliseconds kLockInterval{10};

Error failed(const char* call, const std::string& file) {
  return system_error(errno, std::string("the accepted host key cannot be recorded: ") + call, file, kHint);
}

Result<UniqueFd> open_locked(const std::string& file) {
  const std::size_t slash = file.rfind('/');
  if (slash != std::string::npos && slash > 0)
    ::mkdir(file.substr(0, slash).c_str(), 0700);  // open says if it is missing
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd) return failed("open", file);
  for (const auto give_up = std::chrono::steady_clock::now() + kLockPatience;;) {
    if (::flock(fd.value(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EINTR && errno != EWOULDBLOCK) return failed("flock", file);
    if (std::chrono::steady_clock::now() > give_up) return failed("another program holds its lock", file);
    std::this_thread::sleep_for(kLockInterval);
  }
}

Result<std::string> read_text(int fd, const std::string& file) {
  std::string text, piece(65536, '\0');
  while (true) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("read", file);
    if (got == 0) return text;
    text.append(piece, 0, static_cast<std::size_t>(got));
    if (text.size() > kMaxKnownHostsBytes)
      return make_error(Errc::too_large, "more than " + std::to_string(kMaxKnownHostsBytes) + " bytes of known hosts",
                        file, kHint);
  }
}

// A half line, of a full disk, is taken back: the next reader would find it damaged.
Result<void> write_line(int fd, const std::string& line, off_t end, const std::string& file) {
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t put = ::write(fd, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const Error error = failed("write", file);
      if (rest.size() < line.size() && ::ftruncate(fd, end) != 0) return failed("ftruncate after a failed write", file);
      return error;
    }
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
  return ok;
}

}  // namespace

Result<HostKeyAnswer> append_host_key(const std::string& file, const std::string& name, const HostKey& key,
                                      bool hashed) {
  Result<std::string> line = known_line(name, key, hashed);
  if (!line) return line.error();
  Result<UniqueFd> fd = open_locked(file);
  if (!fd) return fd.error();
  Result<std::string> text = read_text(fd->value(), file);
  if (!text) return text.error();
  KnownHosts there;
  there.parse(*text, file);
  HostKeyAnswer known = there.check(name, key);
  if (known.status != HostKeyStatus::unknown) return known;
  if (!text->empty() && text->back() != '\n') line->insert(line->begin(), '\n');
  Result<void> written = write_line(fd->value(), *line, static_cast<off_t>(text->size()), file);
  if (!written) return written.error();
  return known;
}

}  // namespace llmlaunch::launcher::ssh
