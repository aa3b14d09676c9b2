// TCP_NODELAY and the keep-alive times; see tcp_tuning.hpp.
#include "rendezvous/base/tcp_tuning.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace llmlaunch {
namespace {

constexpr int kKeepAliveIdleSeconds = 30;
constexpr int kKeepAliveIntervalSeconds = 10;
constexpr int kKeepAliveProbes = 3;

void set_tcp_option(int fd, int level, int name, int value) {
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

}  // namespace

void tune_connection(int fd) {
  set_tcp_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_tcp_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set_tcp_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
}

}  // namespace llmlaunch
