// What the environment says of Gloo.
#include "trainer/gloo_options.hpp"

#include <cstdlib>

#include "tests/support/catch.hpp"

namespace trainer_gloo_options_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

TEST_CASE("LLMLAUNCH_SHM_DISABLE is a switch as the flags are, and GLOO_SOCKET_IFNAME names the interface") {
  struct Row {
    const char* value;
    bool share_memory;
  };
  for (const Row& row : {Row{"", true}, Row{"0", true}, Row{"false", true}, Row{"No", true}, Row{"off", true},
                         Row{"1", false}, Row{"true", false}, Row{"YES", false}}) {
    ::setenv("LLMLAUNCH_SHM_DISABLE", row.value, 1);
    INFO(row.value);
    const auto options = gloo_options_from_environment();
    REQUIRE(options);
    CHECK(options->share_memory == row.share_memory);
  }
  ::setenv("LLMLAUNCH_SHM_DISABLE", "2", 1);
  const auto wrong = gloo_options_from_environment();
  ::unsetenv("LLMLAUNCH_SHM_DISABLE");
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().code == Errc::invalid_config);
  CHECK(wrong.error().what ==
        "environment variable LLMLAUNCH_SHM_DISABLE is '2', not true or false (also yes, no, on, off, 1, 0)");
  CHECK(gloo_options_from_environment()->share_memory);
  ::setenv("GLOO_SOCKET_IFNAME", "eth7", 1);
  CHECK(gloo_options_from_environment()->interface == "eth7");
  ::unsetenv("GLOO_SOCKET_IFNAME");
  CHECK(gloo_options_from_environment()->interface.empty());
}

}  // namespace trainer_gloo_options_test
