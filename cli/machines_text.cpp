// Of the token only its source is known here: nothing reads it for a text.
#include "cli/machines_text.hpp"

#include <fmt/format.h>

#include "rendezvous/base/env.hpp"

namespace llmlaunch::cli {
namespace {

std::string shown_source(const std::string& token_from) {
  if (!token_from.empty()) return "from " + token_from;
  return fmt::format("not given; a run wants --token-file, llmlaunch.token_file or {}", env::kJoinToken);
}

}  // namespace

std::string shown_machines(const launcher::LaunchPlan& plan) {
  if (!plan.per_machine) return {};
  const launcher::PerMachine& here = *plan.per_machine;
  const std::string which =
      here.machine_rank ? fmt::format("this is machine {}", *here.machine_rank) : "which one this is, machine 0 says";
  const std::string_view role = here.machine_rank != 0u ? ", and the plan of machine 0 counts"
                                : here.gives_places     ? ", which gives out the places of the others"
                                                        : "";
  return fmt::format("machines: {}, each started by itself; {}{}\ntoken: {}\n", plan.hosts.size(), which, role,
                     shown_source(here.token_from));
}

std::string explained_machines(const launcher::Config& config, const launcher::EnvList& environment) {
  if (!launcher::runs_per_machine(config)) return {};
  const bool known = config.places.contains("machine_rank");
  const bool six = config.main_process_ip->find(':') != config.main_process_ip->npos;
  const auto port = config.main_process_port != 0 ? config.main_process_port : launcher::kDefaultMainPort;
  return fmt::format("# each of {} machines is started by itself; {}; machine 0 is at {}{}{}:{}; token: {}\n",
                     *config.num_machines,
                     known ? fmt::format("this is machine {}", config.machine_rank)
                           : "no machine_rank, so that machine 0 gives out the places",
                     six ? "[" : "", *config.main_process_ip, six ? "]" : "", port,
                     shown_source(launcher::token_source(config, environment)));
}

}  // namespace llmlaunch::cli
