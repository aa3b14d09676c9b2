// Lines on stdout, and what became of them. By write(2): stdio keeps what it could not write, and would put it before
// the next line.
#include "trainer/output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

#include "rendezvous/base/log.hpp"

namespace llmlaunch::trainer {
namespace {

std::optional<Error> first_lost;
std::uint64_t lost_writes = 0;
bool line_is_cut = false;  // the last write ended in the middle

/// 0 or the errno. What is written is taken from `bytes`.
int write_out(int descriptor, std::string_view& bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {  // another process on the same terminal or pipe has made it so
      pollfd room{.fd = descriptor, .events = POLLOUT, .revents = 0};
      ::poll(&room, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

void keep_standard_descriptors() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one. Open for reading only, so that a write says EBADF, as it would.
    [[maybe_unused]] const int opened = ::open("/dev/null", O_RDONLY);
  }
}

void write_output(std::FILE* out, std::string_view bytes, bool quiet) {
  const int descriptor = ::fileno(out);
  if (descriptor < 0) {  // in memory
    std::fwrite(bytes.data(), 1, bytes.size(), out);
    std::fflush(out);
    return;
  }
  const std::string text = (line_is_cut ? "\n" : "") + std::string(bytes);
  std::string_view rest = text;
  const int reason = write_out(descriptor, rest);
  if (reason == 0) {
    line_is_cut = false;
    return;
  }
  line_is_cut = line_is_cut || rest.size() < text.size();
  ++lost_writes;
  if (first_lost) return;
  first_lost = system_error(reason, "write", "stdout");
  if (!quiet) log_warning("{}; what is not printed is lost, and the work goes on", to_string(*first_lost));
}

Result<void> output_written() {
  if (!first_lost) return ok;
  Error error = *first_lost;
  if (lost_writes > 1) error.what += fmt::format(" ({} times)", lost_writes);
  error.hint = "what was not printed is lost; everything else is done";
  return error;
}

}  // namespace llmlaunch::trainer
