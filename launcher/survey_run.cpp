// The survey as a job, and its result for the process that started this one.
#include "launcher/survey_run.hpp"

#include <fmt/format.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "launcher/gathered_output.hpp"
#include "launcher/job_state.hpp"
#include "rendezvous/base/signal_code.hpp"

namespace llmlaunch::launcher {
namespace {

using std::chrono::system_clock;

std::string end_in_words(const HostEnd& end) {
  switch (end.kind) {
    case HostEnd::Kind::timed_out: return fmt::format("the survey took longer than {} s", kSurveyTime.count() / 1000);
    case HostEnd::Kind::signaled: return "the survey was ended by " + signal_name(end.value);
    case HostEnd::Kind::not_started:
    case HostEnd::Kind::stopped: return "the survey was stopped";
    default: return fmt::format("the survey ended with status {}", end.value);
  }
}

Result<std::string> output_of(const GatheredOutput& gathered, std::size_t host) {
  const Rank rank{static_cast<std::uint32_t>(host)};
  if (gathered.size(rank, agent::Stream::out) > kMaxSurveyBytes)
    return make_error(Errc::too_large, fmt::format("the host's answer has more than {} bytes", kMaxSurveyBytes));
  std::string text;
  auto read = gathered.read(rank, agent::Stream::out, [&text](std::string_view piece) -> Result<void> {
    text += piece;
    return ok;
  });
  if (!read) return read.error();
  return text;
}

// The host's clock when its command ended, against ours when we heard of it.
std::optional<std::chrono::milliseconds> clock_ahead(const RankEnd& rank, const HostEnd& end) {
  if (rank.ended_wall_ns == 0 || end.ended == TimePoint{}) return std::nullopt;
  const auto theirs = std::chrono::nanoseconds(rank.ended_wall_ns);
  const auto ours = system_clock::now().time_since_epoch() - (std::chrono::steady_clock::now() - end.ended);
  return std::chrono::duration_cast<std::chrono::milliseconds>(theirs - ours);
}

HostSurvey survey_of(const LaunchPlan& plan, const JobResult& result, const GatheredOutput& gathered,
                     std::size_t index) {
  const HostEnd& end = result.hosts[index];
  HostSurvey survey;
  survey.name = end.host;
  if (end.failure) {
    survey.failure = end.failure;
    return survey;
  }
  if (end.kind != HostEnd::Kind::exited || end.value != 0) {
    survey.failure = make_error(end.kind == HostEnd::Kind::timed_out ? Errc::timed_out : Errc::io, end_in_words(end));
    return survey;
  }
  const auto text = output_of(gathered, index);
  auto facts = text ? parse_survey(*text) : Result<HostFacts>(text.error());
  if (!facts) {
    survey.failure = facts.error();
    return survey;
  }
  if (!plan.hosts[index].local) facts->clock_ahead = clock_ahead(result.ranks[index], end);
  survey.facts = std::move(*facts);
  return survey;
}

}  // namespace

std::optional<Error> ended_by_signal(const JobResult& result) {
  if (!result.failure || result.failure->code != Errc::interrupted) return std::nullopt;
  Error error = *result.failure;
  error.code = signal_code(result.exit_status - 128);
  return error;
}

Result<std::vector<HostSurvey>> run_survey(LaunchPlan plan, LaunchOptions launch, const std::string& temporary) {
  plan.argv = survey_command();
  plan.host_timeout = kSurveyTime;
  plan.log_dir.clear();
  GatheredOutput gathered(plan.hosts.size(), temporary);
  HostKeyDesk desk;
  launch.gather = &gathered;
  if (!launch.host_keys) launch.host_keys = &desk;
  const auto result = run_job(plan, launch);
  if (!result) return result.error();
  if (auto signal = ended_by_signal(*result)) return *signal;
  std::vector<HostSurvey> surveys;
  for (std::size_t i = 0; i < result->hosts.size(); ++i) {
    surveys.push_back(survey_of(plan, *result, gathered, i));
    HostSurvey& survey = surveys.back();
    const auto met = launch.host_keys->met.find(survey.name);
    if (survey.failure && survey.failure->code == Errc::host_key_unknown && met != launch.host_keys->met.end())
      survey.unknown_key = met->second;
  }
  return surveys;
}

// --- to another process --------------------------------------------------------------------------------------------

namespace {

using nlohmann::json;

json wire_of(const HostFacts& facts) {
  json gpus = json::array(), interfaces = json::array();
  for (const GpuFacts& gpu : facts.gpus) gpus.push_back({gpu.name, gpu.memory_mib, gpu.compute_capability});
  for (const InterfaceFacts& one : facts.interfaces)
    interfaces.push_back({one.name, one.up, one.speed_mbit, one.mtu, static_cast<int>(one.kind), json(one.addresses)});
  const auto number = [](const auto& value) { return value ? json(*value) : json(nullptr); };
  json all = {{"gpus", gpus}, {"interfaces", interfaces}};
  all["texts"] = {facts.hostname,     facts.kernel,      facts.os,      facts.machine, facts.cpu,
                  facts.driver,       facts.cuda_driver, facts.cuda,    facts.nccl,    facts.glibc,
                  facts.python,       facts.nofile,      facts.memlock, facts.head,    facts.route_interface,
                  facts.route_address};
  all["numbers"] = {number(facts.cores), number(facts.numa_nodes), number(facts.memory_kib), number(facts.shm_kib)};
  all["clock"] = facts.clock_ahead ? json(facts.clock_ahead->count()) : json(nullptr);
  return all;
}

HostFacts facts_from(const json& all) {
  HostFacts facts;
  std::string* const texts[] = {
      &facts.hostname,     &facts.kernel,      &facts.os,      &facts.machine, &facts.cpu,
      &facts.driver,       &facts.cuda_driver, &facts.cuda,    &facts.nccl,    &facts.glibc,
      &facts.python,       &facts.nofile,      &facts.memlock, &facts.head,    &facts.route_interface,
      &facts.route_address};
  for (std::size_t i = 0; i < std::size(texts); ++i) *texts[i] = all.at("texts").at(i).get<std::string>();
  std::optional<std::uint64_t>* const numbers[] = {&facts.cores, &facts.numa_nodes, &facts.memory_kib, &facts.shm_kib};
  for (std::size_t i = 0; i < std::size(numbers); ++i)
    if (!all.at("numbers").at(i).is_null()) *numbers[i] = all.at("numbers").at(i).get<std::uint64_t>();
  if (!all.at("clock").is_null()) facts.clock_ahead = std::chrono::milliseconds(all.at("clock").get<std::int64_t>());
  for (const json& gpu : all.at("gpus"))
    facts.gpus.push_back({gpu.at(0).get<std::string>(), gpu.at(1).get<std::uint64_t>(), gpu.at(2).get<std::string>()});
  for (const json& one : all.at("interfaces"))
    facts.interfaces.push_back({one.at(0).get<std::string>(), one.at(1).get<bool>(), one.at(2).get<std::uint64_t>(),
                                one.at(3).get<std::uint32_t>(), static_cast<InterfaceFacts::Kind>(one.at(4).get<int>()),
                                one.at(5).get<std::vector<std::string>>()});
  return facts;
}

}  // namespace

std::string to_wire(const std::vector<HostSurvey>& hosts) {
  json all = json::array();
  for (const HostSurvey& host : hosts) {
    json one = {{"name", host.name}, {"unknown_key", host.unknown_key}};
    if (host.facts) one["facts"] = wire_of(*host.facts);
    if (host.failure) {
      const Error& error = *host.failure;
      const bool own = error.code.category() == error_category();
      const Errc other = signal_of(error.code) != 0 ? Errc::interrupted : Errc::io;
      one["failure"] = {own ? error.code.value() : static_cast<int>(other), error.what, error.where, error.hint};
    }
    all.push_back(std::move(one));
  }
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<std::vector<HostSurvey>> from_wire(const std::string& text) {
  try {
    std::vector<HostSurvey> hosts;
    for (const json& one : json::parse(text)) {
      HostSurvey host;
      host.name = one.at("name").get<std::string>();
      host.unknown_key = one.at("unknown_key").get<std::string>();
      if (one.contains("facts")) host.facts = facts_from(one.at("facts"));
      if (one.contains("failure")) {
        const json& error = one.at("failure");
        host.failure = make_error(static_cast<Errc>(error.at(0).get<int>()), error.at(1).get<std::string>(),
                                  error.at(2).get<std::string>(), error.at(3).get<std::string>());
      }
      hosts.push_back(std::move(host));
    }
    return hosts;
  } catch (const json::exception& caught) {
    return make_error(Errc::protocol, std::string("the survey's process said something else: ") + caught.what());
  }
}

}  // namespace llmlaunch::launcher
