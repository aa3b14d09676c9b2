// The arithmetic of cpu_bind: nodes to ranks, then cores of a node to its ranks.
#include "launcher/agent/cpu_bind.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

using Ranks = std::vector<std::size_t>;
using Units = std::vector<CpuList>;  // what is shared out: cores, or hardware threads where cores do not suffice

std::string counted_noun(std::size_t number, const char* noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

Units units_of(const std::vector<const Core*>& cores, std::size_t ranks) {
  Units units;
  for (const Core* core : cores) units.push_back(core->cpus);
  if (units.size() >= ranks) return units;
  Units threads;
  for (const CpuList& core : units)
    for (const unsigned cpu : core) threads.push_back({cpu});
  return threads;
}

/// Neighbours together, the remainder one each to the first.
Result<void> share_out(const std::vector<const Core*>& cores, const Ranks& ranks, const std::string& where,
                       Binding& binding) {
  const Units units = units_of(cores, ranks.size());
  if (units.size() < ranks.size()) {
    return make_error(Errc::out_of_resources,
                      counted_noun(ranks.size(), "rank") + " to bind, but only " + counted_noun(units.size(), "CPU") +
                          " may be used" + where,
                      {}, "llmlaunch.cpu_bind: none lets ranks share what there is");
  }
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const std::size_t first = units.size() * i / ranks.size(), last = units.size() * (i + 1) / ranks.size();
    CpuList& cpus = binding.cpus[ranks[i]];
    for (std::size_t unit = first; unit < last; ++unit) cpus.insert(cpus.end(), units[unit].begin(), units[unit].end());
    std::sort(cpus.begin(), cpus.end());
    const auto cores_of_rank = static_cast<std::uint32_t>(last - first);
    binding.least_cores = binding.least_cores == 0 ? cores_of_rank : std::min(binding.least_cores, cores_of_rank);
  }
  return ok;
}

std::vector<unsigned> nodes_in(const CpuTopology& topology) {
  std::vector<unsigned> nodes;
  for (const Core& core : topology.cores)
    if (nodes.empty() || nodes.back() != core.node) nodes.push_back(core.node);
  return nodes;
}

std::vector<const Core*> cores_of(const CpuTopology& topology, const std::vector<unsigned>& nodes) {
  std::vector<const Core*> cores;
  for (const Core& core : topology.cores)
    if (std::find(nodes.begin(), nodes.end(), core.node) != nodes.end()) cores.push_back(&core);
  return cores;
}

/// Groups of nodes that groups of ranks have for themselves: several ranks on one node, or several nodes for one rank.
Result<void> bind_to_nodes(const CpuTopology& topology, std::size_t ranks, Binding& binding) {
  const std::vector<unsigned> nodes = nodes_in(topology);
  const std::size_t groups = std::min(nodes.size(), ranks);
  for (std::size_t group = 0; group < groups; ++group) {
    std::vector<unsigned> own;
    for (std::size_t i = nodes.size() * group / groups; i < nodes.size() * (group + 1) / groups; ++i)
      own.push_back(nodes[i]);
    Ranks members;
    for (std::size_t rank = 0; rank < ranks; ++rank)
      if (rank * groups / ranks == group) members.push_back(rank);
    const std::string where = " on NUMA node " + std::to_string(own.front());
    if (auto shared = share_out(cores_of(topology, own), members, where, binding); !shared) return shared;
  }
  return ok;
}

/// The node of each rank's GPU, or why one of them is not known.
std::vector<unsigned> nodes_of_ranks(const CpuTopology& topology, const std::vector<std::optional<unsigned>>& gpus,
                                     std::string& why_not) {
  const std::vector<unsigned> nodes = nodes_in(topology);
  std::vector<unsigned> found;
  for (std::size_t rank = 0; rank < gpus.size(); ++rank) {
    if (!gpus[rank]) {
      why_not = "it is not known which GPU its local rank " + std::to_string(rank) + " uses";
    } else if (*gpus[rank] >= topology.gpu_nodes.size()) {
      why_not = "there are " + counted_noun(topology.gpu_nodes.size(), "NVIDIA GPU") + ", and local rank " +
                std::to_string(rank) + " uses GPU " + std::to_string(*gpus[rank]);
    } else {
      const int node = topology.gpu_nodes[*gpus[rank]];
      if (node >= 0 && std::find(nodes.begin(), nodes.end(), static_cast<unsigned>(node)) != nodes.end()) {
        found.push_back(static_cast<unsigned>(node));
        continue;
      }
      why_not = node < 0 ? "the NUMA node of GPU " + std::to_string(*gpus[rank]) + " is not known"
                         : "GPU " + std::to_string(*gpus[rank]) + " is on NUMA node " + std::to_string(node) +
                               ", none of whose CPUs may be used";
    }
    return {};
  }
  return found;
}

Result<void> bind_to_gpus(const CpuTopology& topology, const std::vector<unsigned>& node_of_rank, Binding& binding) {
  std::map<unsigned, Ranks> ranks_on;
  for (std::size_t rank = 0; rank < node_of_rank.size(); ++rank) ranks_on[node_of_rank[rank]].push_back(rank);
  for (const auto& [node, ranks] : ranks_on) {
    const std::string where = " on NUMA node " + std::to_string(node);
    if (auto shared = share_out(cores_of(topology, {node}), ranks, where, binding); !shared) return shared;
  }
  return ok;
}

}  // namespace

std::optional<unsigned> gpu_of_rank(const std::string* visible_devices, unsigned local) {
  if (visible_devices == nullptr) return local;
  std::vector<std::string_view> devices;
  std::string_view rest = *visible_devices;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    devices.push_back(item);
  }
  const std::size_t index = devices.size() == 1 ? 0 : local;
  if (index >= devices.size()) return std::nullopt;
  return parse_whole<unsigned>(devices[index]);
}

Result<Binding> bind_ranks(CpuBind policy, const CpuTopology& topology,
                           const std::vector<std::optional<unsigned>>& gpus) {
  const std::size_t ranks = gpus.size();
  Binding binding;
  binding.least_cores =
      static_cast<std::uint32_t>(std::max<std::size_t>(1, topology.cores.size() / std::max<std::size_t>(1, ranks)));
  if (policy == CpuBind::none || ranks == 0) return binding;
  binding.least_cores = 0;
  binding.cpus.resize(ranks);
  Result<void> bound = ok;
  if (policy == CpuBind::core) {
    Ranks all(ranks);
    std::iota(all.begin(), all.end(), 0);
    bound = share_out(cores_of(topology, nodes_in(topology)), all, "", binding);
  } else {
    std::vector<unsigned> nodes;
    if (policy == CpuBind::gpu) nodes = nodes_of_ranks(topology, gpus, binding.note);
    if (!binding.note.empty()) binding.note += ": its ranks are bound as by cpu_bind numa";
    bound = nodes.empty() ? bind_to_nodes(topology, ranks, binding) : bind_to_gpus(topology, nodes, binding);
  }
  if (!bound) return bound.error();
  return binding;
}

}  // namespace llmlaunch::launcher::agent
