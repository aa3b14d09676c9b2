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

bool is_loopback_bytes(const std::string& bytes) {
  return (bytes.size() == 4 && bytes[0] == 127) || bytes == std::string(15, '\0') + '\1';
}

/// Each machine is that itself. A name of one machine that its own /etc/hosts has as loopback is not.
bool is_everybody(const std::string& host) {
  return host == "localhost" || is_loopback_bytes(address_bytes(host));
}

/// As torchrun asks: whose address the endpoint is, serves the rendezvous.
bool is_main_machine(const Config& config, const HeadFacts& head) {
  if (config.is_host) return *config.is_host;
  const std::string& host = *config.main_process_ip;
  if (is_everybody(host) || host == head.hostname) return true;
  std::vector<std::string> wanted = head.main_addresses;
  wanted.push_back(host.substr(0, host.find('%')));
  return std::any_of(wanted.begin(), wanted.end(), [&head](const std::string& address) {
    const std::string bytes = address_bytes(address);
    if (bytes.empty()) return false;
    return is_loopback_bytes(bytes) || std::any_of(head.addresses.begin(), head.addresses.end(),
                                                   [&](const std::string& own) { return address_bytes(own) == bytes; });
  });
}

/// Where machine 0 of one command per machine listens, and what the others must not be told.
void note_loopback(const Config& config, const PerMachine& here, std::vector<std::string>& notes) {
  if (!here.loopback || here.machine_rank != 0u || !here.gives_places) return;
  notes.push_back(
      fmt::format("{}: main_process_ip {} is each machine itself: only processes of this machine can join; "
                  "others need an address of machine 0",
                  place_of(config, "main_process_ip"), *config.main_process_ip));
}

}  // namespace

std::string token_source(const Config& config, const EnvList& environment) {
  const auto place = config.places.find("llmlaunch.token_file");
  const std::string* const variable = value_of(environment, env::kJoinToken);
  const bool typed = config.token_file && place != config.places.end() && place->second.origin == ConfigOrigin::option;
  if (!typed && variable != nullptr && !variable->empty()) return fmt::format("the variable {}", env::kJoinToken);
  return config.token_file
             ? fmt::format("the file '{}' ({})", *config.token_file, place_of(config, "llmlaunch.token_file"))
             : "";
}

Result<PerMachine> per_machine_of(const Config& config, const HeadFacts& head, std::vector<std::string>& notes) {
  const std::uint32_t machines = *config.num_machines;
  if (machines > kMostMachines)
    return wrong(config, "num_machines",
                 fmt::format("num_machines is {}: at most {} can be started one by one", machines, kMostMachines));
  if (config.machine_rank >= machines) {
    return wrong(config, "machine_rank",
                 fmt::format("machine_rank is {}, but num_machines is {}", config.machine_rank, machines),
                 fmt::format("it must be 0 … {}", machines - 1));
  }
  const bool stated = config.places.contains("machine_rank");
  if (stated && config.is_host && *config.is_host != (config.machine_rank == 0)) {
    return wrong(config, "machine_rank",
                 fmt::format("machine_rank is {}, and is_host={} says that this is {}machine 0", config.machine_rank,
                             *config.is_host ? "true" : "false", *config.is_host ? "" : "not "),
                 "leave one of them out: machine 0 is where the others call");
  }
  PerMachine here;
  here.gives_places = !stated;
  if (stated) here.machine_rank = config.machine_rank;
  if (!stated && is_main_machine(config, head)) here.machine_rank = 0;
  here.if_free = !stated && !config.is_host && here.machine_rank == 0u;
  here.loopback = is_everybody(*config.main_process_ip);
  here.token_from = token_source(config, head.environment);
  const std::string wanted = address_bytes(*config.main_process_ip);
  const bool own = std::any_of(head.addresses.begin(), head.addresses.end(),
                               [&](const std::string& address) { return address_bytes(address) == wanted; });
  // Not a link-local one, which means nothing without its interface.
  if (!wanted.empty() && (is_loopback_bytes(wanted) || own) && !config.main_process_ip->starts_with("fe80:"))
    here.bind_address = *config.main_process_ip;
  note_loopback(config, here, notes);
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
  const std::string wanted = address_bytes(*config.main_process_ip);
  if (wanted.empty() || is_loopback_bytes(wanted)) return;  // all of 127.0.0.0/8 is this machine
  std::string choice;
  for (const std::string& own : head.addresses) {
    const std::string bytes = address_bytes(own);
    if (bytes == wanted) return;
    const bool for_hosts = !is_loopback_bytes(bytes) && !own.starts_with("fe80:");
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
