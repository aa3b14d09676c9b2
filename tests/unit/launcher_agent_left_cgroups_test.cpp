// The lock and the rules by which a cgroup counts as left behind, on ordinary directories.
#include "launcher/agent/left_cgroups.hpp"

#include <filesystem>
#include <string>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_left_cgroups_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

TEST_CASE("cgroups that jobs have left behind are removed, and no other: not one that is held, used or nobody's job") {
  const test::TemporaryDirectory top;
  const auto make = [&](const char* name) {
    const std::string path = top.str() + "/" + name;
    std::filesystem::create_directory(path);
    return path;
  };
  const std::string left = make("llmlaunch-20260101-1-gpu01"), used = make("llmlaunch-20260101-2-gpu01");
  const std::string held = make("llmlaunch-20260101-3-gpu01"), named = make("llmlaunch-mine"), other = make("2");
  std::filesystem::create_directory(used + "/inside");
  UniqueFd holder = hold_cgroup(held);
  REQUIRE(holder);
  CHECK_FALSE(hold_cgroup(held));
  remove_left_cgroups(top.str());
  CHECK_FALSE(std::filesystem::exists(left));
  for (const std::string& path : {used, held, named, other}) CHECK(std::filesystem::exists(path));
  holder.reset();
  remove_left_cgroups(top.str());
  CHECK_FALSE(std::filesystem::exists(held));
  CHECK_FALSE(hold_cgroup(held));
}

}  // namespace launcher_agent_left_cgroups_test
