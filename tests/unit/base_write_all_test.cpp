// Bytes to a descriptor, or the reason.
#include "rendezvous/base/write_all.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "tests/support/catch.hpp"

namespace base_write_all_test {

using namespace llmlaunch;

TEST_CASE("all bytes are written, or the errno is told") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  CHECK(write_all(ends[1], "all") == 0);
  CHECK(write_all(ends[1], "") == 0);
  char text[8] = {};
  CHECK(::read(ends[0], text, sizeof(text)) == 3);
  CHECK(std::string(text) == "all");
  CHECK(write_all(ends[0], "x") == EBADF);
  ::close(ends[0]);
  ::close(ends[1]);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  REQUIRE(full >= 0);
  CHECK(write_all(full, "x") == ENOSPC);
  ::close(full);
}

}  // namespace base_write_all_test
