#include <catch2/catch.hpp>

#include "launcher/plan.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

/// The error of a plan for these hosts, or "".
std::string refused(const std::string& hosts, const std::string& ssh = "{}", StartPolicy policy = StartPolicy::gang) {
  const auto config = parse_config("llmlaunch:\n  ssh: " + ssh + "\n  hosts:\n" + hosts, "cfg.yaml");
  REQUIRE(config.has_value());
  Command command{{"prog"}, {}};
  command.policy = policy;
  const auto plan = make_plan(*config, command, {"job", {}, "/here"});
  return plan ? "" : to_string(plan.error());
}

}  // namespace

TEST_CASE("the same address and port under two names is refused where the second one stands") {
  CHECK(refused("  - {name: a, address: 10.0.0.1}\n  - b\n  - {name: c, address: 10.0.0.1}\n") ==
        "cfg.yaml:6:5: hosts 'a' and 'c' are the same: 10.0.0.1\n"
        "   hint: the first one is at cfg.yaml:4:5; for more ranks on one host set its 'slots'");
  CHECK(refused("  - {name: a, address: 10.0.0.1, port: 2222}\n  - {name: 10.0.0.1}\n", "{port: 2222}") ==
        "cfg.yaml:5:5: hosts 'a' and '10.0.0.1' are the same: 10.0.0.1 port 2222\n"
        "   hint: the first one is at cfg.yaml:4:5; for more ranks on one host set its 'slots'");
}

TEST_CASE("one address has many spellings") {
  for (const char* other : {"'2001:DB8:0::1'", "'2001:db8:0:0::1'"})
    CHECK(refused("  - {name: a, address: '2001:db8::1'}\n  - {name: b, address: " + std::string(other) + "}\n") != "");
  CHECK(refused("  - {name: a, address: '::ffff:10.0.0.1'}\n  - {name: b, address: 10.0.0.1}\n") != "");
  CHECK(refused("  - gpu01\n  - GPU01\n") != "");
}

TEST_CASE("another port or another way is another host, and commands on each host may repeat one") {
  CHECK(refused("  - {name: a, address: 10.0.0.1}\n  - {name: b, address: 10.0.0.2}\n") == "");
  CHECK(refused("  - {name: a, address: n, port: 2201}\n  - {name: b, address: n, port: 2202}\n") == "");
  CHECK(refused("  - {name: a, address: n, port: 2201}\n  - {name: b, address: n}\n", "{port: 2202}") == "");
  CHECK(refused("  - {name: a, address: 10.0.0.1, proxy_jump: x}\n  - {name: b, address: 10.0.0.1, proxy_jump: y}\n") ==
        "");
  CHECK(refused("  - {name: a, address: 10.0.0.1}\n  - {name: b, address: 10.0.0.1}\n", "{}", StartPolicy::each_host) ==
        "");
}
