// The grammar of ProxyJump, and its keys in the configuration.
#include "launcher/proxy_jump.hpp"

#include "launcher/config.hpp"
#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"

namespace launcher_proxy_jump_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

TEST_CASE("a way is taken apart and written again") {
  struct Row {
    const char* text;
    const char* again;
  };
  for (const auto& [text, again] :
       {Row{"bastion", "bastion"}, Row{"me@bastion:2222", "me@bastion:2222"}, Row{"a,b@c,d:1", "a,b@c,d:1"},
        Row{"ssh://me@gate", "me@gate"}, Row{"[fd00::1]:22", "[fd00::1]:22"},
        Row{"me@[fe80::1%eth0]", "me@[fe80::1%eth0]"}, Row{"me@corp.com@gate", "me@corp.com@gate"}, Row{"none", ""},
        Row{"bücher", "bücher"}}) {
    INFO(text);
    const auto way = parse_proxy_jump(text);
    REQUIRE(way);
    CHECK(to_string(*way) == again);
  }
  const auto way = parse_proxy_jump("me@gate:2222,inner");
  CHECK(way->at(0).user == "me");
  CHECK(way->at(0).host == "gate");
  CHECK(way->at(0).port == 2222);
  CHECK(!way->at(1).user);
  CHECK(!way->at(1).port);
}

TEST_CASE("a text that is no way is refused with the stop that is none") {
  struct Row {
    const char* text;
    const char* what;
  };
  for (const auto& [text, what] :
       {Row{"", "'' is no jump host: that cannot be a host"}, Row{"a,,b", "'' is no jump host: that cannot be a host"},
        Row{"a,", "'' is no jump host: that cannot be a host"},
        Row{"@a", "'@a' is no jump host: that cannot be a user"},
        Row{"me@", "'me@' is no jump host: that cannot be a host"},
        Row{"-oProxyCommand=x", "'-oProxyCommand=x' is no jump host: that cannot be a host"},
        Row{"a b", "'a b' is no jump host: that cannot be a host"},
        Row{"a:0", "'a:0' is no jump host: a port is a number from 1 to 65535"},
        Row{"a:65536", "'a:65536' is no jump host: a port is a number from 1 to 65535"},
        Row{"a:", "'a:' is no jump host: a port is a number from 1 to 65535"},
        Row{"fd00::1", "'fd00::1' is no jump host: brackets belong around an IPv6 address"},
        Row{"[fd00::1", "'[fd00::1' is no jump host: a bracket is not closed"},
        Row{"[fd00::1]22", "'[fd00::1]22' is no jump host: a port is a number from 1 to 65535"},
        Row{"a,b,c,d,e,f,g,h,i", "more than 8 jump hosts, one behind the other"}}) {
    INFO(text);
    const auto way = parse_proxy_jump(text);
    REQUIRE_FALSE(way);
    CHECK(way.error().what == what);
    CHECK(way.error().code == Errc::invalid_argument);
  }
}

TEST_CASE("proxy_jump of a host wins over that of all hosts, and a localhost with one is reached by ssh") {
  const auto config = parse_config(
      "llmlaunch:\n  ssh: {proxy_jump: 'me@gate:2222,inner'}\n  hosts:\n    - gpu01\n"
      "    - {name: gpu02, proxy_jump: none}\n    - {name: localhost, proxy_jump: gate}\n",
      "cfg.yaml");
  REQUIRE(config);
  const auto plan = make_plan(*config, {{"true"}, {}}, {"job", {}, "/"});
  REQUIRE(plan);
  CHECK(plan->hosts[0].proxy_jump == "me@gate:2222,inner");
  CHECK(plan->hosts[1].proxy_jump == "none");
  CHECK(plan->hosts[2].proxy_jump == "gate");
  CHECK(!plan->hosts[2].local);
}

TEST_CASE("a proxy_jump that is none is refused at its place") {
  const auto bad = parse_config("llmlaunch:\n  ssh:\n    proxy_jump: gate:http\n", "cfg.yaml");
  REQUIRE_FALSE(bad);
  CHECK(bad.error().code == Errc::invalid_config);
  CHECK(to_string(bad.error()) ==
        "cfg.yaml:3:17: llmlaunch.ssh.proxy_jump: 'gate:http' is no jump host: a port is a number from 1 to 65535\n"
        "    3 |     proxy_jump: gate:http\n"
        "      |                 ^ it is written [user@]host[:port], several with commas between them, or none");
}

}  // namespace launcher_proxy_jump_test
