// Several names for one sshd are said before anything starts.
#include "launcher/config.hpp"
#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"

namespace launcher_host_twins_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

using Names = std::vector<std::string>;

/// What is noted of the hosts, which are lines of YAML.
Names noted(const std::string& hosts, StartPolicy policy = StartPolicy::gang) {
  const auto config = parse_config("llmlaunch:\n  hosts:\n" + hosts, "cfg.yaml");
  REQUIRE(config);
  const auto plan = make_plan(*config, Command{{"true"}, {}, policy}, HeadFacts{"job", {}, "/"});
  REQUIRE(plan);
  return plan->notes;
}

constexpr const char* kTwins = "    - {name: a, address: 10.0.0.1}\n    - {name: b, address: 10.0.0.1}\n";

}  // namespace

TEST_CASE("several names for one address and port are said once, at the second") {
  const std::string rest = ", and share its cores and GPUs; for more ranks on one host set its 'slots'";
  CHECK(noted(kTwins) == Names{"cfg.yaml:4:7: hosts a,b are one: all are reached at 10.0.0.1, ssh's own port" + rest});
  CHECK(noted("    - {name: a, address: N1, port: 22}\n    - {name: n1, port: 22}\n") ==
        Names{"cfg.yaml:4:7: hosts a,n1 are one: all are reached at N1, port 22" + rest});
  CHECK(noted("    - {name: 'n[1-3]', address: '10.0.0.1,10.0.0.1,10.0.0.1'}\n") ==
        Names{"cfg.yaml:3:7: hosts n[1-3] are one: all are reached at 10.0.0.1, ssh's own port" + rest});
  CHECK(noted("    - {name: a, address: '2001:DB8:0::1'}\n    - {name: b, address: '2001:db8::1'}\n").size() == 1);
  CHECK(noted("    - {name: a, address: x, user: u1}\n    - {name: b, address: x, user: u2}\n").size() == 1);
  CHECK(noted("    - {name: a, address: x}\n    - {name: b, address: x}\n    - {name: c, address: y}\n"
              "    - {name: d, address: y}\n")
            .size() == 2);
}

TEST_CASE("one address is right with another port or behind another jump host") {
  CHECK(noted("    - {name: a, address: 10.0.0.1, port: 22}\n    - {name: b, address: 10.0.0.1, port: 23}\n").empty());
  CHECK(noted("    - {name: a, address: 10.0.0.1, proxy_jump: g1}\n"
              "    - {name: b, address: 10.0.0.1, proxy_jump: g2}\n")
            .empty());
  CHECK(noted("    - localhost\n    - {name: me, address: localhost}\n").empty());
}

TEST_CASE("an exec may have a host under two names") {
  CHECK(noted(kTwins, StartPolicy::each_host).empty());
}

}  // namespace launcher_host_twins_test
