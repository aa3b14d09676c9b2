// A table of the hosts, then the variables that all have, then those that only some have.
#include "cli/config_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "cli/dry_run.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/counted.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::EnvList;
using launcher::HostPlan;
using launcher::LaunchPlan;
using SummaryRow = std::array<std::string, 4>;

std::string table(const LaunchPlan& plan) {
  std::vector<SummaryRow> rows{{"host", "ranks", "by", "workdir"}};
  for (const HostPlan& host : plan.hosts) {
    const auto words = shown_ranks(host);
    rows.push_back({host.name, words.substr(words.find(' ') + 1), shown_way(host), shown_workdir(host)});
  }
  std::array<std::size_t, 4> widths{};
  for (const SummaryRow& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const SummaryRow& row : rows)
    text += fmt::format("{:{}}  {:{}}  {:{}}  {}\n", row[0], widths[0], row[1], widths[1], row[2], widths[2], row[3]);
  return text;
}

/// What somebody has set: not what says the rank's place, which is another one everywhere.
EnvList chosen(const HostPlan& host) {
  std::map<std::string, std::string> last;  // a later entry wins
  for (const auto& [name, value] : host.env)
    if (!launcher::set_by_llmlaunch(name)) last[name] = value;
  return {last.begin(), last.end()};
}

std::string indented(const EnvList& list) {
  std::string text;
  for (const auto& [name, value] : list) text += "  " + shown_entry(name, value) + "\n";
  return text;
}

EnvList without(const EnvList& list, const EnvList& others) {
  EnvList rest;
  std::set_difference(list.begin(), list.end(), others.begin(), others.end(), std::back_inserter(rest));
  return rest;
}

std::string environments(const LaunchPlan& plan) {
  EnvList shared = chosen(plan.hosts.front());
  for (const HostPlan& host : plan.hosts) shared = without(shared, without(shared, chosen(host)));
  std::string text;
  if (!shared.empty()) text += "environment of all hosts:\n" + indented(shared);
  std::vector<std::pair<EnvList, std::vector<std::string>>> groups;  // in the order of their first hosts
  for (const HostPlan& host : plan.hosts) {
    const EnvList own = without(chosen(host), shared);
    if (own.empty()) continue;
    auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == own; });
    if (found == groups.end()) found = groups.insert(groups.end(), {own, {}});
    found->second.push_back(host.name);
  }
  for (const auto& [own, names] : groups)
    text += fmt::format("only on {}:\n{}", launcher::compress_hostlist(names), indented(own));
  return text;
}

}  // namespace

std::string describe_config(const launcher::Config& config, const LaunchPlan& plan) {
  std::string text =
      fmt::format("{}: {} on {}\n", config.file, counted(plan.world_size, "rank"), counted(plan.hosts.size(), "host"));
  text += fmt::format("rendezvous: {}\n", shown_rendezvous(plan));
  text += fmt::format("logs: {}\n", shell_quoted(plan.log_dir));
  text += shown_process(plan);
  text += "\n" + table(plan);
  const std::string variables = environments(plan);
  if (!variables.empty()) text += "\n" + variables;
  if (!config.rank_env.empty()) text += "of each rank, with its place in them:\n" + indented(config.rank_env);
  return text;
}

}  // namespace llmlaunch::cli
