// TCP_NODELAY and how long a peer may be silent; see tcp_tuning.hpp.
#include "rendezvous/base/tcp_tuning.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>

namespace llmlaunch {
namespace {

constexpr int kKeepAliveProbes = 3;
constexpr std::chrono::seconds kLongestKeepAlive{32'767};  // Linux refuses more

void set_tcp_option(int fd, int level, int name, int value) {
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

int whole_seconds(std::chrono::milliseconds time) {
  const auto seconds = std::chrono::round<std::chrono::seconds>(time);
  return static_cast<int>(std::clamp(seconds, std::chrono::seconds(1), kLongestKeepAlive).count());
}

}  // namespace

void tune_connection(int fd, std::chrono::milliseconds silence) {
  constexpr std::chrono::milliseconds kLongest{std::numeric_limits<int>::max()};
  set_tcp_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_tcp_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, whole_seconds(silence / 2));
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, whole_seconds(silence / 2 / kKeepAliveProbes));
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  set_tcp_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(std::min(silence, kLongest).count()));
}

}  // namespace llmlaunch
