// Where machine 0 of a job is: by main_process_ip, and among this machine's own addresses.
#include "launcher/plan_machines.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>

#include "launcher/plan_env.hpp"
#include "launcher/plan_shares.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {
namespace {

/// Above this a typing error is likelier than a job; each machine costs machine 0 a connection.
constexpr std::uint32_t kMostMachines = 4096;

/// The bytes of an address written as digits, IPv4 within IPv6 as IPv4; empty for a name.
std::string address_bytes(const std::string& text) {
  in6_addr bytes{};
  if (::inet_pton(AF_INET, text.c_str(), &bytes) == 1) return {reinterpret_cast<const char*>(&bytes), 4};
  if (::inet_pton(AF_INET6, text.c_str(), &bytes) != 1) return {};
  const std::string six(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  return IN6_IS_ADDR_V4MAPPED(&bytes) ? six.substr(12) : six;
}

}  // namespace

std::string token_source(const Config& config, const EnvList& environment) {
  const std::string place = place_of(config, "llmlaunch.token_file");
  const std::string* const variable = value_of(environment, env::kJoinToken);
  const bool typed = config.token_file && place == "--token-file";
  if (!typed && variable != nullptr && !variable->empty()) return fmt::format("the variable {}", env::kJoinToken);
  return config.token_file ? fmt::format("the file '{}' ({})", *config.token_file, place) : "";
}

Result<PerMachine> per_machine_of(const Config& config, const HeadFacts& head) {
  const std::uint32_t machines = *config.num_machines;
  if (machines > kMostMachines)
    return wrong(config, "num_machines",
                 fmt::format("num_machines is {}: at most {} can be started one by one", machines, kMostMachines));
  if (!config.places.contains("machine_rank")) {
    return wrong(
        config, "num_machines",
        fmt::format("num_machines is {} and no hosts are given: which of the machines is this?", machines),
        fmt::format("add --machine_rank 0 where main_process_ip {} is, and the others up to {} elsewhere (srun: "
                    "--machine_rank $SLURM_NODEID); or list the machines under llmlaunch.hosts, and one "
                    "command starts them all",
                    *config.main_process_ip, machines - 1));
  }
  if (config.machine_rank >= machines) {
    return wrong(config, "machine_rank",
                 fmt::format("machine_rank is {}, but num_machines is {}", config.machine_rank, machines),
                 fmt::format("it must be 0 … {}", machines - 1));
  }
  PerMachine here;
  here.machine_rank = config.machine_rank;
  here.token_from = token_source(config, head.environment);
  const std::string wanted = address_bytes(*config.main_process_ip);
  const bool loopback = wanted.size() == 4 && wanted[0] == 127;
  const bool own = std::any_of(head.addresses.begin(), head.addresses.end(),
                               [&](const std::string& address) { return address_bytes(address) == wanted; });
  // Not a link-local one, which means nothing without its interface.
  if (!wanted.empty() && (loopback || own) && !config.main_process_ip->starts_with("fe80:"))
    here.bind_address = *config.main_process_ip;
  return here;
}

Result<void> check_via_ssh(const Config& config, LaunchPlan& plan) {
  if (plan.rendezvous_via != RendezvousWay::ssh || plan.policy != StartPolicy::gang) return ok;
  if (plan.per_machine) {
    return wrong(config, "llmlaunch.rendezvous.via",
                 "rendezvous.via is ssh, but there is no ssh to these machines: each is started by itself",
                 "leave it out: machines that are started one by one come to main_process_ip, and so can their ranks");
  }
  if (!plan.rendezvous_address.empty() && plan.use_agent_store) {
    plan.notes.push_back(fmt::format("{}: main_process_ip has no effect: ranks come to the rendezvous through ssh ({})",
                                     place_of(config, "main_process_ip"),
                                     place_of(config, "llmlaunch.rendezvous.via")));
  }
  return ok;
}

void note_port_of_machines(const Config& config, const LaunchPlan& plan, std::vector<std::string>& notes) {
  const bool zero = std::any_of(config.values.begin(), config.values.end(), [](const ConfigValue& value) {
    return value.path == "main_process_port" && value.text == "0";  // and not null, which is no answer
  });
  if (plan.per_machine && zero) {
    notes.push_back(
        fmt::format("{}: main_process_port 0 is {} here: machines that are started one by one cannot learn a free port",
                    place_of(config, "main_process_port"), kDefaultMainPort));
  }
}

void note_foreign_address(const Config& config, const HeadFacts& head, std::vector<std::string>& notes) {
  if (!config.main_process_ip || head.addresses.empty()) return;
  const auto is_loopback = [](const std::string& bytes) { return bytes.size() == 4 && bytes[0] == 127; };
  const std::string wanted = address_bytes(*config.main_process_ip);
  if (wanted.empty() || is_loopback(wanted)) return;  // all of 127.0.0.0/8 is this machine
  std::string choice;
  for (const std::string& own : head.addresses) {
    const std::string bytes = address_bytes(own);
    if (bytes == wanted) return;
    const bool for_hosts = !is_loopback(bytes) && own != "::1" && !own.starts_with("fe80:");
    if (for_hosts) choice += (choice.empty() ? ", or take one of its own: " : ", ") + own;
  }
  if (runs_per_machine(config)) {
    notes.push_back(
        fmt::format("{}: main_process_ip {} is no address of this machine, by which the others reach machine 0",
                    place_of(config, "main_process_ip"), *config.main_process_ip));
    return;
  }
  notes.push_back(
      fmt::format("{}: main_process_ip {} is no address of this machine, where the rendezvous is; leave it "
                  "out{}",
                  place_of(config, "main_process_ip"), *config.main_process_ip, choice));
}

}  // namespace llmlaunch::launcher
