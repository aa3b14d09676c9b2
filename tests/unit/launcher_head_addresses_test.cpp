// Which addresses of the head a host tries, what all are told in the end, and what the ranks find of it.
#include "launcher/head_addresses.hpp"

#include "launcher/host_messages.hpp"
#include "rendezvous/base/env.hpp"
#include "tests/support/catch.hpp"

namespace launcher_head_addresses_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using Texts = std::vector<std::string>;

namespace {

const std::vector<InterfaceAddress> kOwn = {
    {"lo", "127.0.0.1", true},        {"docker0", "172.17.0.1"}, {"eth0", "10.0.0.1"}, {"eth1", "169.254.7.1"},
    {"br-3f2a", "172.18.0.1"},        {"ib0", "10.9.0.1"},       {"lo", "::1", true},  {"eth0", "fd00::1"},
    {"eth0", "fe80::5054:ff:fe12:1"}, {"wg0", "10.200.0.1"},
};

LaunchPlan plan_of(const std::vector<bool>& local) {
  LaunchPlan plan;
  for (const bool here : local) {
    HostPlan host;
    host.name = "h" + std::to_string(plan.hosts.size());
    host.local = here;
    host.ranks.push_back({Rank{plan.world_size++}, 0, {}});
    plan.hosts.push_back(std::move(host));
  }
  return plan;
}

std::string value(const agent::EnvList& env, std::string_view name) {
  for (const auto& variable : env)
    if (variable.first == name) return variable.second;
  return "-";
}

}  // namespace

TEST_CASE("the address that ssh came from is tried first, those of the machine's inside last") {
  CHECK(head_candidates("10.9.0.1", kOwn) ==
        Texts{"10.9.0.1", "10.0.0.1", "fd00::1", "172.17.0.1", "172.18.0.1", "10.200.0.1", "169.254.7.1"});
  // What ssh saw is tried whatever it is: a jump host's name for us, loopback where the host is this machine.
  CHECK(head_candidates("127.0.0.1", kOwn).front() == "127.0.0.1");
  CHECK(head_candidates("192.0.2.7", {}) == Texts{"192.0.2.7"});
  CHECK(head_candidates("fe80::1", {}).empty());
  CHECK(head_candidates("", {{"eth0", "10.0.0.1"}}) == Texts{"10.0.0.1"});
  std::vector<InterfaceAddress> many;
  for (int i = 0; i < 40; ++i) many.push_back({"eth0", "10.0.0." + std::to_string(i)});
  CHECK(head_candidates("10.0.0.39", many).size() == agent::kMaxHeadAddresses);
}

TEST_CASE("who tries what: nobody where all is here, main_process_ip alone where it is given") {
  LaunchPlan plan = plan_of({true, false});
  CHECK(ways_to_head(plan, 0, "127.0.0.1", 1, {}, kOwn).addresses.empty());
  const agent::HeadWays ways = ways_to_head(plan, 1, "10.0.0.1", 29'400, {}, kOwn);
  CHECK(ways.addresses.front() == "10.0.0.1");
  CHECK(ways.port == 29'400);
  CHECK(as_text(ways.greeting).substr(0, 6) == "LLMRDV");
  CHECK(ways.answer.size() == kFrameHeaderBytes);
  CHECK_FALSE(ways.carry);
  plan.rendezvous_address = "head.example";
  CHECK(ways_to_head(plan, 1, "10.0.0.1", 1, {"203.0.113.1"}, kOwn).addresses == Texts{"203.0.113.1"});
  CHECK(ways_to_head(plan, 0, "127.0.0.1", 1, {"203.0.113.1"}, kOwn).addresses == Texts{"203.0.113.1"});
  CHECK(ways_to_head(plan, 1, "10.0.0.1", 1, {}, kOwn).addresses.empty());  // a name that is not known here
  const LaunchPlan here = plan_of({true, true});
  CHECK(ways_to_head(here, 0, "127.0.0.1", 1, {}, kOwn).addresses.empty());
  plan.policy = StartPolicy::each_host;
  CHECK(ways_to_head(plan, 1, "10.0.0.1", 1, {"203.0.113.1"}, kOwn).addresses.empty());
}

TEST_CASE("a host on this machine is told an address that the others reach, and its interface") {
  const LaunchPlan plan = plan_of({true, false, false});
  std::vector<HostAddresses> hosts = {
      {"127.0.0.1", "127.0.0.1", 0, ""}, {"10.9.0.1", "10.9.0.2", 0, "ib3"}, {"127.0.0.1", "127.0.0.2", 0, ""}};
  settle_addresses(plan, hosts, kOwn);
  CHECK(hosts[0].head == "10.9.0.1");
  CHECK(hosts[0].interface == "ib0");
  CHECK(hosts[1].interface == "ib3");
  CHECK(hosts[2].head == "10.9.0.1");
  std::vector<HostAddresses> here = {{"127.0.0.1", "127.0.0.2", 0, ""}, {"127.0.0.1", "127.0.0.3", 0, ""}};
  settle_addresses(plan_of({false, false}), here, kOwn);
  CHECK(here[0].head == "127.0.0.1");
}

TEST_CASE("each host's ranks find their own address, and its interface where nothing else is said") {
  LaunchPlan plan = plan_of({false, false});
  HeadSide head;
  head.rendezvous_port = 29'400;
  const std::vector<HostAddresses> addresses = {{"10.0.0.1", "10.0.0.2", 0, "eth0"}, {"fd00::1", "fd00::3", 0, "ens5"}};
  const agent::Go first = go_message(plan, 0, addresses, 1, head), second = go_message(plan, 1, addresses, 1, head);
  CHECK(value(first.env, env::kRendezvous) == "10.0.0.1:29400");
  CHECK(value(first.env, env::kMasterAddr) == "10.0.0.1");
  CHECK(first.defaults == agent::EnvList{{"NCCL_SOCKET_IFNAME", "=eth0"}, {"GLOO_SOCKET_IFNAME", "eth0"}});
  CHECK(value(second.env, env::kRendezvous) == "[fd00::1]:29400");
  CHECK(value(second.env, env::kMasterAddr) == "fd00::1");
  CHECK(value(second.env, env::kMasterPort) == "29400");
  CHECK(second.defaults == agent::EnvList{{"NCCL_SOCKET_IFNAME", "=ens5"}, {"GLOO_SOCKET_IFNAME", "ens5"}});

  const LaunchPlan alone = plan_of({false});
  CHECK(go_message(alone, 0, {addresses[0]}, 1, head).defaults.empty());
  CHECK(go_message(plan, 0, {{"127.0.0.1", "127.0.0.2"}, addresses[1]}, 1, head).defaults.empty());
}

TEST_CASE("through ssh: a port of the host's own loopback, for the store too") {
  LaunchPlan plan = plan_of({true, false});
  plan.rendezvous_via = RendezvousWay::ssh;
  plan.rendezvous_address = "10.0.0.1";
  const agent::HeadWays ways = ways_to_head(plan, 1, "10.0.0.1", 29'400, {"10.0.0.1"}, kOwn);
  CHECK(ways.carry);
  CHECK(ways.addresses == Texts{"10.0.0.1"});
  CHECK_FALSE(ways_to_head(plan, 0, "127.0.0.1", 29'400, {}, kOwn).carry);
  HeadSide head;
  head.rendezvous_port = 29'400;
  std::vector<HostAddresses> addresses = {{"127.0.0.1", "127.0.0.1", 0, ""}, {"10.0.0.1", "10.0.0.2", 41'000, "eth7"}};
  settle_addresses(plan, addresses, kOwn);
  const agent::Go here = go_message(plan, 0, addresses, 1, head), there = go_message(plan, 1, addresses, 1, head);
  CHECK(value(here.env, env::kRendezvous) == "127.0.0.1:29400");
  CHECK(value(here.env, env::kMasterPort) == "29400");
  CHECK(value(here.defaults, env::kGlooInterface) == "eth0");
  CHECK(value(there.env, env::kRendezvous) == "127.0.0.1:41000");
  CHECK(value(there.env, env::kMasterAddr) == "127.0.0.1");
  CHECK(value(there.env, env::kMasterPort) == "41000");
  // A store that rank 0 makes is not the head's: ranks go there directly.
  plan.use_agent_store = false;
  plan.rendezvous_address.clear();
  CHECK(value(go_message(plan, 1, addresses, 50'000, head).env, env::kMasterAddr) == "10.0.0.1");
  CHECK(value(go_message(plan, 1, addresses, 50'000, head).env, env::kMasterPort) == "50000");
}

TEST_CASE("a host without a way is told every address, why, and three remedies") {
  agent::HeadReach reach;
  reach.failures = "10.0.0.1:29400: no answer within 5 s, [fd00::1]:29400: Network is unreachable";
  const Error error = no_way_to_head(reach);
  CHECK(error.code == Errc::unreachable);
  CHECK(error.what ==
        "no connection to the rendezvous on the head (10.0.0.1:29400: no answer within 5 s, "
        "[fd00::1]:29400: Network is unreachable)");
  CHECK(error.hint.find("main_process_ip") != error.hint.npos);
  CHECK(error.hint.find("llmlaunch.rendezvous.via: ssh") != error.hint.npos);
}

}  // namespace launcher_head_addresses_test
