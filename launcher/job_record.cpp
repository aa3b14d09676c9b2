// The text of job.json. Bytes that are no UTF-8 (an argument may be anything) become the replacement character: the
// record is for people and scripts, the plan itself is not read back from it.
#include "launcher/job_record.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/job_state.hpp"

namespace llmlaunch::launcher {
namespace {

using nlohmann::ordered_json;
using std::chrono::system_clock;

std::string utc(system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time - whole).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(system_clock::to_time_t(whole)), ms);
}

ordered_json names_of(const EnvList& env) {
  ordered_json names = ordered_json::array();
  for (const auto& entry : env) names.push_back(entry.first);
  return names;
}

const char* word(RankEnd::Kind kind) {
  switch (kind) {
    case RankEnd::Kind::not_started: return "not started";
    case RankEnd::Kind::exited: return "exited";
    case RankEnd::Kind::signaled: return "signaled";
    case RankEnd::Kind::stopped: return "stopped";
    case RankEnd::Kind::lost: return "lost";
  }
  return "unknown";
}

ordered_json end_of(const RankEnd& end) {
  ordered_json record = {{"rank", number(end.rank)}, {"host", end.host}, {"end", word(end.kind)}};
  record["pid"] = end.pid == 0 ? ordered_json(nullptr) : ordered_json(end.pid);
  const bool ended =
      end.kind == RankEnd::Kind::exited || end.kind == RankEnd::Kind::signaled || end.kind == RankEnd::Kind::stopped;
  record["status"] = ended && !end.signaled ? ordered_json(end.value) : ordered_json(nullptr);
  record["signal"] = ended && end.signaled ? ordered_json(signal_name(end.value)) : ordered_json(nullptr);
  record["core_dumped"] = end.core_dumped;
  const system_clock::time_point at{
      std::chrono::duration_cast<system_clock::duration>(std::chrono::nanoseconds(end.ended_wall_ns))};
  record["ended_at"] = end.ended_wall_ns == 0 ? ordered_json(nullptr) : ordered_json(utc(at));
  return record;
}

ordered_json hosts_of(const LaunchPlan& plan, const JobResult* result) {
  ordered_json hosts = ordered_json::array();
  for (const HostPlan& host : plan.hosts) {
    ordered_json ranks = ordered_json::array();
    for (const RankPlan& rank : host.ranks) ranks.push_back(number(rank.rank));
    const std::size_t index = hosts.size();
    HostAddress address;
    if (result != nullptr && index < result->addresses.size()) address = result->addresses[index];
    const auto or_null = [](const std::string& text) {
      return text.empty() ? ordered_json(nullptr) : ordered_json(text);
    };
    hosts.push_back({{"name", host.name},
                     {"node_rank", number(host.node_rank)},
                     {"address", host.address},
                     {"local", host.local},
                     {"rendezvous", or_null(address.rendezvous)},
                     {"interface", or_null(address.interface)},
                     {"workdir", host.workdir},
                     {"env_names", names_of(host.env)},
                     {"ranks", std::move(ranks)}});
  }
  return hosts;
}

}  // namespace

std::string job_record(const LaunchPlan& plan, const JobTimes& times, const JobResult* result) {
  ordered_json record;
  record["job_id"] = plan.job_id;
  record["llmlaunch_version"] = LLMLAUNCH_VERSION;
  record["agent_protocol"] = agent::kProtocolVersion;
  record["started_at"] = utc(times.started);
  record["ended_at"] = times.ended ? ordered_json(utc(*times.ended)) : ordered_json(nullptr);
  record["exit_status"] = result != nullptr ? ordered_json(result->exit_status) : ordered_json(nullptr);
  record["failure"] = result != nullptr && result->failure
                          ? ordered_json(to_string(without_values(*result->failure, plan.secrets)))
                          : ordered_json(nullptr);
  record["world_size"] = plan.world_size;
  record["argv"] = without_secrets(plan.argv);
  record["program"] = plan.program ? ordered_json(plan.program->name) : ordered_json(nullptr);
  record["hosts"] = hosts_of(without_secrets(plan), result);
  ordered_json ends = ordered_json::array();
  if (result != nullptr)
    for (const RankEnd& end : result->ranks) ends.push_back(end_of(end));
  record["ranks"] = std::move(ends);
  return record.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace llmlaunch::launcher
