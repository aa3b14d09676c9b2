// Reads a handful of small files below /sys. A file that is missing says the same as one that says nothing: old kernels
// and containers leave many of them out.
#include "launcher/agent/cpu_topology.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "launcher/agent/small_file.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileBytes = 64u << 10;

/// The text of a file without the newline at its end; empty when it cannot be read.
std::string file_text(const fs::path& path) {
  std::string text = small_file(path.string(), kMaxFileBytes);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code failed;  // a directory that is not there has no entries
  for (auto entry = fs::directory_iterator(directory, failed); !failed && entry != fs::directory_iterator();
       entry.increment(failed))
    names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// "node12" → 12.
std::optional<unsigned> number_after(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto number = parse_whole<unsigned>(name.substr(prefix.size()));
  return number && *number < kMaxCpus ? number : std::nullopt;
}

std::map<unsigned, unsigned> node_of_each_cpu(const fs::path& sys) {
  std::map<unsigned, unsigned> nodes;
  for (const std::string& name : names_in(sys / "devices/system/node")) {
    const auto node = number_after("node", name);
    if (!node) continue;
    for (const unsigned cpu : parse_cpu_list(file_text(sys / "devices/system/node" / name / "cpulist")))
      nodes[cpu] = *node;
  }
  return nodes;
}

/// The CPU and those that share its core.
CpuList siblings_of(const fs::path& sys, unsigned cpu) {
  const fs::path topology = sys / "devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
  CpuList siblings = parse_cpu_list(file_text(topology / "thread_siblings_list"));
  if (siblings.empty()) siblings = parse_cpu_list(file_text(topology / "core_cpus_list"));
  if (std::find(siblings.begin(), siblings.end(), cpu) == siblings.end()) return {cpu};
  return siblings;
}

/// Display and 3D controllers of NVIDIA. Their names are bus addresses of a fixed width, so that names in order are the
/// order of CUDA_DEVICE_ORDER=PCI_BUS_ID.
std::vector<int> nodes_of_gpus(const fs::path& sys) {
  std::vector<int> nodes;
  const fs::path devices = sys / "bus/pci/devices";
  for (const std::string& name : names_in(devices)) {
    const std::string kind = file_text(devices / name / "class");
    const bool gpu = kind.starts_with("0x0300") || kind.starts_with("0x0302");
    if (!gpu || file_text(devices / name / "vendor") != "0x10de") continue;
    nodes.push_back(parse_whole<int>(file_text(devices / name / "numa_node")).value_or(-1));
  }
  return nodes;
}

}  // namespace

CpuList parse_cpu_list(std::string_view text) {
  CpuList cpus;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    unsigned first = 0;
    const char* const end = item.data() + item.size();
    auto parsed = std::from_chars(item.data(), end, first);
    unsigned last = first;
    if (parsed.ec == std::errc{} && parsed.ptr != end && *parsed.ptr == '-')
      parsed = std::from_chars(parsed.ptr + 1, end, last);
    if (parsed.ec != std::errc{} || parsed.ptr != end || last < first || last >= kMaxCpus) return {};
    for (unsigned cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (cpus.size() > kMaxCpus) return {};
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::string format_cpu_list(const CpuList& cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cpus[i]);
    if (last > i) text += "-" + std::to_string(cpus[last]);
    i = last + 1;
  }
  return text;
}

CpuTopology read_topology(const std::string& sys, const CpuList& allowed) {
  CpuTopology topology;
  const auto nodes = node_of_each_cpu(sys);
  std::vector<bool> seen(kMaxCpus);
  for (const unsigned cpu : allowed) {
    if (cpu >= kMaxCpus || seen[cpu]) continue;
    Core core;
    const auto node = nodes.find(cpu);
    core.node = node == nodes.end() ? 0 : node->second;
    for (const unsigned sibling : siblings_of(sys, cpu)) {
      if (!std::binary_search(allowed.begin(), allowed.end(), sibling) || seen[sibling]) continue;
      seen[sibling] = true;
      core.cpus.push_back(sibling);
    }
    topology.cores.push_back(std::move(core));
  }
  std::stable_sort(topology.cores.begin(), topology.cores.end(),
                   [](const Core& one, const Core& other) { return one.node < other.node; });
  topology.gpu_nodes = nodes_of_gpus(sys);
  return topology;
}

}  // namespace llmlaunch::launcher::agent
