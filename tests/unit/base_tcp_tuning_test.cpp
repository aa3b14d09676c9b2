// What is set on the sockets of a job.
#include "rendezvous/base/tcp_tuning.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "tests/support/catch.hpp"

namespace base_tcp_tuning_test {

using namespace llmlaunch;

namespace {

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  REQUIRE(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

std::array<int, 6> tuning_of(std::chrono::milliseconds silence) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  tune_connection(fd, silence);
  const std::array<int, 6> values = {
      option_of(fd, IPPROTO_TCP, TCP_NODELAY),  option_of(fd, SOL_SOCKET, SO_KEEPALIVE),
      option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL),
      option_of(fd, IPPROTO_TCP, TCP_KEEPCNT),  option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT)};
  ::close(fd);
  return values;
}

}  // namespace

TEST_CASE("a silent peer is noticed whether bytes are on their way or not") {
  CHECK(tuning_of(kUsualSilence) == std::array<int, 6>{1, 1, 30, 10, 3, 60'000});
  CHECK(tuning_of(std::chrono::seconds(9)) == std::array<int, 6>{1, 1, 4, 2, 3, 9'000});
  CHECK(tuning_of(std::chrono::milliseconds(300)) == std::array<int, 6>{1, 1, 1, 1, 3, 300});
  CHECK(tuning_of(std::chrono::hours(24 * 365)) == std::array<int, 6>{1, 1, 32'767, 32'767, 3, 2'147'483'647});
}

}  // namespace base_tcp_tuning_test
