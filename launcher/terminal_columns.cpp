// A question to the kernel. Asked for the roll call, for the line of progress, and for what ranks are told.
#include "launcher/terminal_columns.hpp"

#include <sys/ioctl.h>

namespace llmlaunch::launcher {
namespace {

// Of a terminal that does not say.
constexpr std::size_t kUsualColumns = 80;
// What the terminal itself puts behind the line: "^C" and the cursor.
constexpr std::size_t kSpareColumns = 4;

}  // namespace

std::size_t terminal_columns(int fd) {
  winsize size{};
  const bool known = ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > kSpareColumns;
  return (known ? size.ws_col : kUsualColumns) - kSpareColumns;
}

}  // namespace llmlaunch::launcher
