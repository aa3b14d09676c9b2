// A plan for people: what ${HF_TOKEN} and the like came to stands in none of its texts.
#include "launcher/plan.hpp"

namespace llmlaunch::launcher {
namespace {

void hide(std::string& text, const std::vector<std::string>& secrets) {
  text = without_values(std::move(text), secrets);
}

void hide(std::optional<std::string>& text, const std::vector<std::string>& secrets) {
  if (text) hide(*text, secrets);
}

void hide(EnvList& env, const std::vector<std::string>& secrets) {
  for (auto& [name, value] : env) hide(value, secrets);
}

}  // namespace

LaunchPlan without_secrets(LaunchPlan plan) {
  const auto secrets = plan.secrets;
  if (secrets.empty()) return plan;
  hide(plan.log_dir, secrets);
  hide(plan.rendezvous_address, secrets);
  for (std::string& note : plan.notes) hide(note, secrets);
  for (HostPlan& host : plan.hosts) {
    for (std::string* text : {&host.name, &host.address, &host.workdir}) hide(*text, secrets);
    hide(host.user, secrets);
    hide(host.proxy_jump, secrets);
    hide(host.env, secrets);
    for (std::string& line : host.setup) hide(line, secrets);
    for (RankPlan& rank : host.ranks) hide(rank.env, secrets);
  }
  return plan;
}

}  // namespace llmlaunch::launcher
