// A survey for programs.
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/survey_facts.hpp"
#include "launcher/survey_report.hpp"

namespace llmlaunch::launcher {
namespace {

using nlohmann::ordered_json;

ordered_json text_or_null(const std::string& value) {
  return value.empty() ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json number_or_null(const std::optional<std::uint64_t>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json json_of(const GpuFacts& gpu) {
  return {{"name", gpu.name},
          {"memory_mib", gpu.memory_mib == 0 ? ordered_json(nullptr) : ordered_json(gpu.memory_mib)},
          {"compute_capability", text_or_null(gpu.compute_capability)}};
}

ordered_json json_of(const InterfaceFacts& one) {
  const char* kind = one.kind == InterfaceFacts::Kind::virtual_   ? "virtual"
                     : one.kind == InterfaceFacts::Kind::loopback ? "loopback"
                                                                  : "device";
  return {{"name", one.name},
          {"up", one.up},
          {"speed_mbit", one.speed_mbit == 0 ? ordered_json(nullptr) : ordered_json(one.speed_mbit)},
          {"mtu", one.mtu},
          {"kind", kind},
          {"addresses", one.addresses}};
}

void add_facts(const HostFacts& facts, ordered_json& host) {
  host["hostname"] = text_or_null(facts.hostname);
  host["gpus"] = ordered_json::array();
  for (const GpuFacts& gpu : facts.gpus) host["gpus"].push_back(json_of(gpu));
  host["driver"] = text_or_null(facts.driver);
  host["cuda_driver"] = text_or_null(facts.cuda_driver);
  host["cuda"] = text_or_null(facts.cuda);
  host["nccl"] = text_or_null(facts.nccl);
  host["cpu"] = text_or_null(facts.cpu);
  host["cores"] = number_or_null(facts.cores);
  host["numa_nodes"] = number_or_null(facts.numa_nodes);
  host["memory_kib"] = number_or_null(facts.memory_kib);
  host["shm_kib"] = number_or_null(facts.shm_kib);
  host["nofile"] = text_or_null(facts.nofile);
  host["memlock"] = text_or_null(facts.memlock);
  host["interfaces"] = ordered_json::array();
  for (const InterfaceFacts& one : facts.interfaces) host["interfaces"].push_back(json_of(one));
  host["head"] = text_or_null(facts.head);
  host["route_interface"] = text_or_null(facts.route_interface);
  host["route_address"] = text_or_null(facts.route_address);
  host["os"] = text_or_null(facts.os);
  host["kernel"] = text_or_null(facts.kernel);
  host["machine"] = text_or_null(facts.machine);
  host["glibc"] = text_or_null(facts.glibc);
  host["python"] = text_or_null(facts.python);
  host["clock_ahead_ms"] = facts.clock_ahead ? ordered_json(facts.clock_ahead->count()) : ordered_json(nullptr);
}

}  // namespace

std::string survey_json(const std::vector<HostSurvey>& hosts) {
  ordered_json all = {{"hosts", ordered_json::array()}, {"differences", ordered_json::array()}};
  std::vector<std::set<std::string>> values(facts_of({}).size());
  for (const HostSurvey& host : hosts) {
    ordered_json one = {{"host", host.name}, {"reached", host.facts.has_value()}};
    one["reason"] = host.failure ? ordered_json(host.failure->what) : ordered_json(nullptr);
    one["hint"] = host.failure ? text_or_null(host.failure->hint) : ordered_json(nullptr);
    if (host.facts) {
      add_facts(*host.facts, one);
      const auto facts = facts_of(*host.facts);
      for (std::size_t i = 0; i < facts.size(); ++i) values[i].insert(facts[i].value);
    }
    all["hosts"].push_back(std::move(one));
  }
  const auto names = facts_of({});
  for (std::size_t i = 0; i < names.size(); ++i)
    if (values[i].size() > 1) all["differences"].push_back(names[i].key);
  return all.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace llmlaunch::launcher
