// Which machine this is where each is started by itself, and what of a plan only this machine can know.
#include <optional>
#include <string>
#include <vector>

#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"

namespace launcher_plan_machines_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using Names = std::vector<std::string>;

TEST_CASE("machines that are started one by one have an equal share of the ranks, and all have the same plan") {
  const std::string file = "num_machines: 3\nmain_process_ip: 10.0.0.1\nnum_processes: 6\nmachine_rank: ";
  const HeadFacts head{"job", {}, "/", {"10.0.0.1"}};
  const Command command{{"true"}, {}};
  const auto first = make_plan(*parse_config(file + "0", "cfg.yaml"), command, head);
  REQUIRE(first);
  REQUIRE(first->per_machine);
  CHECK(first->per_machine->machine_rank == 0u);
  CHECK_FALSE(first->per_machine->gives_places);
  CHECK(first->per_machine->bind_address == "10.0.0.1");
  CHECK(first->rendezvous_address == "10.0.0.1");
  CHECK(first->rendezvous_port == kDefaultMainPort);
  REQUIRE(first->hosts.size() == 3);
  CHECK(first->hosts[0].local);
  CHECK(first->hosts[1].calls_in);
  CHECK(first->hosts[2].name == "machine2");
  CHECK(first->hosts[2].ranks.front().rank == Rank{4});
  CHECK(first->notes.empty());

  const HeadFacts elsewhere{"job", {}, "/", {"10.0.0.2"}};
  const auto second = make_plan(*parse_config(file + "2\nmain_process_port: 7", "cfg.yaml"), command, elsewhere);
  REQUIRE(second);
  CHECK(second->per_machine->machine_rank == 2u);
  CHECK(second->per_machine->bind_address.empty());
  CHECK(second->rendezvous_port == 7);
  CHECK(second->world_size == 6);
  CHECK(second->notes.empty());

  const auto misplaced = make_plan(*parse_config(file + "0", "cfg.yaml"), command, elsewhere);
  REQUIRE(misplaced);
  CHECK(
      misplaced->notes ==
      Names{
          "cfg.yaml:2:1: main_process_ip 10.0.0.1 is no address of this machine, by which the others reach machine 0"});
  CHECK_FALSE(make_plan(*parse_config("num_processes: 1", "cfg.yaml"), command, head)->per_machine);
}

TEST_CASE(
    "where no place is named, the machine that main_process_ip leads to is machine 0, and the others are anybody") {
  const Command command{{"true"}, {}};
  const auto plan_on = [&](const std::string& address, const HeadFacts& head, std::optional<bool> is_host = {}) {
    auto config = parse_config("num_machines: 3\nnum_processes: 6\nmain_process_ip: '" + address + "'", "cfg.yaml");
    REQUIRE(config);
    config->is_host = is_host;
    auto plan = make_plan(*config, command, head);
    REQUIRE(plan);
    REQUIRE(plan->per_machine);
    CHECK(plan->per_machine->gives_places);
    CHECK(plan->hosts[1].any_machine);
    return std::move(*plan);
  };
  const auto rank_on = [&](const std::string& address, const HeadFacts& head, std::optional<bool> is_host = {}) {
    return plan_on(address, head, is_host).per_machine->machine_rank;
  };
  HeadFacts here{"job", {}, "/", {"127.0.0.1", "10.0.0.1", "fd00::1"}, "gpu01"};
  CHECK(rank_on("10.0.0.1", here) == 0u);
  CHECK(rank_on("fd00:0::1", here) == 0u);
  CHECK(rank_on("fe80::9%eth0", here) == std::nullopt);
  here.addresses.push_back("fe80::9");
  CHECK(rank_on("fe80::9%eth0", here) == 0u);
  CHECK(plan_on("fe80::9%eth0", here).per_machine->bind_address.empty());
  CHECK(rank_on("gpu01", here) == 0u);
  CHECK(rank_on("10.0.0.2", here) == std::nullopt);
  CHECK(rank_on("gpu02", here) == std::nullopt);
  CHECK(plan_on("10.0.0.1", here).per_machine->if_free);
  CHECK(plan_on("10.0.0.1", here).notes.empty());
  CHECK(plan_on("10.0.0.2", here).notes.empty());
  here.main_addresses = {"10.9.9.9", "10.0.0.1"};
  CHECK(rank_on("gpu01.cluster", here) == 0u);
  here.main_addresses = {"127.0.1.1"};  // as Debian's /etc/hosts has a machine's own name
  CHECK(rank_on("gpu01.cluster", here) == 0u);
  CHECK_FALSE(plan_on("gpu01.cluster", here).per_machine->loopback);
  here.main_addresses = {"10.0.0.2"};
  CHECK(rank_on("gpu02", here) == std::nullopt);
  CHECK(rank_on("10.0.0.1", here, false) == std::nullopt);
  CHECK(rank_on("10.0.0.2", here, true) == 0u);
  CHECK_FALSE(plan_on("10.0.0.2", here, true).per_machine->if_free);
  for (const std::string everybody : {"localhost", "127.0.0.1", "::1"}) {
    const LaunchPlan plan = plan_on(everybody, here);
    CHECK(plan.per_machine->machine_rank == 0u);
    CHECK(plan.per_machine->bind_address == (everybody == "localhost" ? "" : everybody));  // in `here` or not
    CHECK(plan.notes == Names{"cfg.yaml:3:1: main_process_ip " + everybody +
                              " is each machine itself: only processes of this machine can join; others need an "
                              "address of machine 0"});
  }
}

TEST_CASE("a place and an is_host that contradict each other are refused") {
  const auto refusal = [](const std::string& rank, bool is_host) {
    auto config = parse_config("num_machines: 3\nmain_process_ip: h\nmachine_rank: " + rank, "cfg.yaml");
    REQUIRE(config);
    config->is_host = is_host;
    const auto plan = make_plan(*config, Command{{"true"}, {}}, HeadFacts{"job", {}, "/"});
    return plan ? "" : to_string(plan.error());
  };
  CHECK(refusal("2", false).empty());
  CHECK(refusal("0", true).empty());
  CHECK(
      refusal("2", true) ==
      "cfg.yaml:3:1: machine_rank is 2, and is_host=true says that this is machine 0\n   hint: leave one of them out: "
      "machine 0 is where the others call");
  CHECK(refusal("0", false)
            .starts_with("cfg.yaml:3:1: machine_rank is 0, and is_host=false says that this is not machine 0"));
}

TEST_CASE("without HOME a workdir below it is below the home directory of the user database") {
  const auto workdir = [](const std::string& text, const HeadFacts& head) {
    const auto plan = make_plan(*parse_config(text, "cfg.yaml"), Command{{"true"}, {}}, head);
    return plan ? plan->hosts.front().workdir : to_string(plan.error());
  };
  HeadFacts head{"job", {}, "/"};
  head.home = "/home/of/passwd";
  CHECK(workdir("llmlaunch: {workdir: ~/x/y}", head) == "/home/of/passwd/x/y");
  CHECK(workdir("llmlaunch: {workdir: '~'}", head) == "/home/of/passwd");
  head.environment = {{"HOME", ""}};
  CHECK(workdir("llmlaunch: {workdir: ~/x}", head) == "/home/of/passwd/x");
  head.environment = {{"HOME", "/mine"}};
  CHECK(workdir("llmlaunch: {workdir: ~/x}", head) == "/mine/x");
  CHECK(workdir("llmlaunch: {workdir: ~x}", HeadFacts{"job", {}, "/"}) == "~x");
  CHECK(workdir("llmlaunch:\n  workdir: ~/x", HeadFacts{"job", {}, "/"}) ==
        "cfg.yaml:2:3: workdir '~/x': this machine's home directory is not known: HOME is not set, and the user "
        "database has none for this user\n   hint: set HOME, or write the directory out");
  CHECK(workdir("llmlaunch: {workdir: ~/x, hosts: [gpu01]}", HeadFacts{"job", {}, "/"}) == "~/x");
}

}  // namespace launcher_plan_machines_test
