// Two names for one sshd are refused before anything starts.
#include "launcher/config.hpp"
#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

/// The whole message, or "" for a plan.
std::string refusal(const std::string& hosts, StartPolicy policy = StartPolicy::gang, const std::string& more = "") {
  const auto config = parse_config("llmlaunch:\n  hosts:\n" + hosts + more, "cfg.yaml");
  REQUIRE(config);
  const auto plan = make_plan(*config, Command{{"true"}, {}, policy}, HeadFacts{"job", {}, "/"});
  if (plan) return "";
  CHECK(plan.error().code == Errc::invalid_config);
  return to_string(plan.error());
}

}  // namespace

TEST_CASE("two names for one address and port are refused at the second") {
  CHECK(refusal("    - {name: a, address: 10.0.0.1}\n    - {name: b, address: 10.0.0.1}\n") ==
        "cfg.yaml:4:7: hosts 'a' and 'b' are one: both are reached at 10.0.0.1, ssh's own port\n"
        "   hint: the first is at cfg.yaml:3:7; for more ranks on one host set its 'slots'");
  CHECK(refusal("    - {name: a, address: B, port: 22}\n    - {name: b, port: 22}\n") ==
        "cfg.yaml:4:7: hosts 'a' and 'b' are one: both are reached at b, port 22\n"
        "   hint: the first is at cfg.yaml:3:7; for more ranks on one host set its 'slots'");
  CHECK(refusal("    - {name: a, address: '2001:DB8:0::1'}\n    - '2001:db8::1'\n") != "");
  CHECK(refusal("    - {name: a, address: x, user: u1}\n    - {name: b, address: x, user: u2}\n") != "");
  // Of one range there is one place only.
  CHECK(refusal("    - {name: 'n[1-2]', address: '10.0.0.1,10.0.0.1'}\n").find("the first is at") == std::string::npos);
}

TEST_CASE("one address is right with another port or behind another jump host") {
  CHECK(refusal("    - {name: a, address: 10.0.0.1, port: 22}\n    - {name: b, address: 10.0.0.1, port: 23}\n") == "");
  CHECK(refusal("    - {name: a, address: 10.0.0.1, proxy_jump: g1}\n"
                "    - {name: b, address: 10.0.0.1, proxy_jump: g2}\n") == "");
  CHECK(refusal("    - localhost\n    - {name: me, address: localhost}\n") == "");
}

TEST_CASE("an exec may have a host under two names") {
  CHECK(refusal("    - {name: a, address: 10.0.0.1}\n    - {name: b, address: 10.0.0.1}\n", StartPolicy::each_host) ==
        "");
}
