// Where the user is at home, with and without HOME.
#include "rendezvous/base/home.hpp"

#include <pwd.h>
#include <unistd.h>

#include "tests/support/catch.hpp"

namespace base_home_test {

TEST_CASE("HOME says where home is, and the password file where it says nothing") {
  CHECK(llmlaunch::home_directory("/somewhere") == "/somewhere");
  const passwd* const entry = ::getpwuid(::getuid());
  REQUIRE(entry != nullptr);
  CHECK(llmlaunch::home_directory("") == entry->pw_dir);
}

}  // namespace base_home_test
