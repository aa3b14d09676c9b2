// deepspeed_hostfile and its filters, mpirun_hostfile: which hosts, which slots.
#include "launcher/accelerate_hosts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/accelerate_env.hpp"
#include "launcher/config_reader.hpp"
#include "launcher/config_schema.hpp"
#include "launcher/hostfile.hpp"
#include "launcher/plan_env.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr const char* kDeepspeedHostfile = "deepspeed_config.deepspeed_hostfile";
constexpr const char* kExclusion = "deepspeed_config.deepspeed_exclusion_filter";
constexpr const char* kInclusion = "deepspeed_config.deepspeed_inclusion_filter";
constexpr const char* kMpirunHostfile = "mpirun_config.mpirun_hostfile";

const std::string* given(const Config& config, std::string_view key) {
  const auto found = config.accelerate.find(key);
  return found == config.accelerate.end() ? nullptr : &found->second;
}

Error wrong_hosts(const Config& config, std::string_view key, std::string what, std::string hint = {}) {
  return make_error(Errc::invalid_config, std::move(what), place_of(config, key), std::move(hint));
}

struct Named {
  std::string host;
  std::set<std::uint32_t> slots;  ///< empty: all
};

Result<std::vector<Named>> parse_filter(const Config& config, std::string_view key, const std::string& text) {
  const std::string name(key.substr(key.find('.') + 1));
  std::vector<Named> all;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find('@', start), text.size());
    std::string part = text.substr(start, end - start);
    std::erase(part, ' ');
    start = end + 1;
    const auto colon = part.find(':');
    Named named{part.substr(0, colon), {}};
    bool good = !named.host.empty();
    for (std::size_t at = colon == part.npos ? part.npos : colon + 1; good && at <= part.size();) {
      const auto comma = std::min(part.find(',', at), part.size());
      const auto slot = parse_integer(std::string_view(part).substr(at, comma - at));
      good = slot && *slot >= 0 && *slot < static_cast<std::int64_t>(kMaxSlots);
      if (good) named.slots.insert(static_cast<std::uint32_t>(*slot));
      at = comma + 1;
    }
    if (!good)
      return wrong_hosts(config, key, fmt::format("{}: '{}' is no host with slots", name, part),
                         "write gpu01@gpu02:0,2 for all of gpu01 and two slots of gpu02");
    const auto before = std::find_if(all.begin(), all.end(), [&](const Named& one) { return one.host == named.host; });
    if (before != all.end())
      return wrong_hosts(config, key, fmt::format("{}: host '{}' is named twice", name, named.host));
    all.push_back(std::move(named));
  }
  return all;
}

/// What a slot of this host is called: the host's own list of GPUs, else the file's, else the number.
std::optional<std::vector<std::string>> gpus_of(const Config& config, const HostConfig& host) {
  const auto& ids = host.gpu_ids ? host.gpu_ids : config.gpu_ids;
  if (!ids || *ids == "all") return std::nullopt;
  std::vector<std::string> list;
  for (std::size_t start = 0; start <= ids->size();) {
    const auto end = std::min(ids->find(',', start), ids->size());
    list.push_back(ids->substr(start, end - start));
    start = end + 1;
  }
  return list;
}

Result<void> keep_slots(const Config& config, HostConfig& host, const std::set<std::uint32_t>& slots) {
  const auto gpus = gpus_of(config, host);
  std::string ids;
  for (const std::uint32_t slot : slots) {
    if (gpus && slot >= gpus->size())
      return make_error(Errc::invalid_config,
                        fmt::format("host '{}' has {} GPUs, and none for slot {}", host.name, gpus->size(), slot),
                        host.where);
    ids += (ids.empty() ? "" : ",") + (gpus ? (*gpus)[slot] : fmt::format("{}", slot));
  }
  host.slots = static_cast<std::uint32_t>(slots.size());
  host.gpu_ids = ids;
  return ok;
}

Result<void> filter_hosts(Config& config, const char* key, const std::string& text) {
  const bool keeps = key == std::string_view(kInclusion);
  const auto filter = parse_filter(config, key, text);
  if (!filter) return filter.error();
  const std::string name = std::string(key).substr(std::string_view(key).find('.') + 1);
  for (const Named& named : *filter) {
    const auto host = std::find_if(config.hosts.begin(), config.hosts.end(),
                                   [&](const HostConfig& one) { return one.name == named.host; });
    if (host == config.hosts.end())
      return wrong_hosts(config, key, fmt::format("{} names '{}', which is not among the hosts", name, named.host));
    if (named.slots.empty()) continue;
    if (!host->slots)
      return wrong_hosts(config, key, fmt::format("{} names slots of '{}', which has none", name, named.host),
                         "say how many slots it has");
    if (*named.slots.rbegin() >= *host->slots)
      return wrong_hosts(
          config, key,
          fmt::format("{} names slot {} of '{}', which has {}", name, *named.slots.rbegin(), named.host, *host->slots),
          fmt::format("its slots are 0 … {}", *host->slots - 1));
  }
  std::vector<HostConfig> left;
  for (HostConfig& host : config.hosts) {
    const auto named =
        std::find_if(filter->begin(), filter->end(), [&](const Named& one) { return one.host == host.name; });
    if (named == filter->end()) {
      if (!keeps) left.push_back(std::move(host));
      continue;
    }
    if (named->slots.empty()) {
      if (keeps) left.push_back(std::move(host));
      continue;
    }
    std::set<std::uint32_t> slots = named->slots;
    if (!keeps) {
      slots.clear();
      for (std::uint32_t slot = 0; slot < *host.slots; ++slot)
        if (named->slots.count(slot) == 0) slots.insert(slot);
      if (slots.empty()) continue;
    }
    if (auto kept = keep_slots(config, host, slots); !kept) return kept;
    left.push_back(std::move(host));
  }
  if (left.empty()) return wrong_hosts(config, key, fmt::format("{} leaves no host", name));
  config.hosts = std::move(left);
  return ok;
}

/// Ranks of all hosts together, where every one says how many.
std::optional<std::uint64_t> all_slots(const Config& config) {
  std::uint64_t sum = 0;
  for (const HostConfig& host : config.hosts) {
    if (!host.slots) return std::nullopt;
    sum += *host.slots;
  }
  return sum;
}

/// The world is what the filter has left.
void forget_counts(Config& config, const char* key) {
  const auto slots = all_slots(config);
  if (slots && config.num_processes && *config.num_processes != *slots) {
    config.notes.push_back(fmt::format("{}: num_processes {} has no effect: {} leaves {} slots",
                                       place_of(config, "num_processes"), *config.num_processes,
                                       std::string_view(key).substr(std::string_view(key).find('.') + 1), *slots));
  }
  if (slots) config.num_processes.reset();
  config.num_machines.reset();
  config.machine_rank = 0;
}

/// As accelerate starts DeepSpeed: num_processes by hosts is the ranks of each, when its slots are enough.
void share_slots(Config& config) {
  const auto slots = all_slots(config);
  if (!slots || !config.num_processes || *config.num_processes == *slots || config.hosts.empty()) return;
  if (*config.num_processes % config.hosts.size() != 0) return;  // the plan says what is wrong
  const auto share = static_cast<std::uint32_t>(*config.num_processes / config.hosts.size());
  const auto is_enough = [&](const HostConfig& host) { return *host.slots >= share; };
  if (share == 0 || !std::all_of(config.hosts.begin(), config.hosts.end(), is_enough)) return;
  for (HostConfig& host : config.hosts) host.slots = share;
}

Result<void> take_hostfile(Config& config, const char* key, HostfileFormat format, const HostSources& sources) {
  const std::string& path = *given(config, key);
  if (!sources.read_file) return make_error(Errc::usage, "host files cannot be read here");
  const auto text = sources.read_file(path);
  if (!text) {
    Error error = text.error();
    if (error.where.empty()) error.where = place_of(config, key);
    if (error.hint.empty())
      error.hint = fmt::format("{} names this file", std::string_view(key).substr(std::string_view(key).find('.') + 1));
    return error;
  }
  auto read = parse_hostfile(*text, path, format, sources);
  if (!read) return read.error();
  if (read->hosts.empty()) return make_error(Errc::invalid_config, "the host file names no host", path);
  config.hosts = std::move(read->hosts);
  config.notes.insert(config.notes.end(), read->notes.begin(), read->notes.end());
  config.places.insert_or_assign("llmlaunch.hosts", ConfigPlace{path});
  return ok;
}

/// The key that names the host file of this kind of job.
const char* hostfile_key(const Config& config) {
  if (config.distributed_type == "DEEPSPEED" && given(config, kDeepspeedHostfile)) return kDeepspeedHostfile;
  return on_cpu(config) && given(config, kMpirunHostfile) ? kMpirunHostfile : nullptr;
}

}  // namespace

bool names_host_file(const Config& config) {
  return hostfile_key(config) != nullptr;
}

Result<void> take_accelerate_hosts(Config& config, const HostSources& sources) {
  const bool deepspeed = config.distributed_type == "DEEPSPEED";
  const bool from_llmlaunch = !config.hosts.empty();
  const char* key = hostfile_key(config);
  if (key != nullptr && !from_llmlaunch) {
    const auto format = deepspeed ? HostfileFormat::deepspeed : HostfileFormat::automatic;
    if (auto taken = take_hostfile(config, key, format, sources); !taken) return taken;
    config.machine_rank = 0;
  }
  const std::string* exclusion = deepspeed ? given(config, kExclusion) : nullptr;
  const std::string* inclusion = deepspeed ? given(config, kInclusion) : nullptr;
  if (exclusion && inclusion)
    config.notes.push_back(
        fmt::format("{}: deepspeed_inclusion_filter has no effect: deepspeed_exclusion_filter is given",
                    place_of(config, kInclusion)));
  const char* filter = exclusion ? kExclusion : inclusion ? kInclusion : nullptr;
  if (filter == nullptr) {
    if (key != nullptr && !from_llmlaunch) share_slots(config);
    return ok;
  }
  if (config.hosts.empty())
    return wrong_hosts(config, filter, "a filter without hosts",
                       "name them in llmlaunch.hosts, or in deepspeed_hostfile");
  if (auto done = filter_hosts(config, filter, exclusion ? *exclusion : *inclusion); !done) return done;
  forget_counts(config, filter);
  return ok;
}

}  // namespace llmlaunch::launcher
