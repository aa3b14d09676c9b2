/// \file
/// `bind_ranks`: which CPUs each rank of a host gets. Pure: topology and wishes in, lists out. No two ranks share a
/// core; only where there are fewer cores than ranks they share cores, but no hardware thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/agent/cpu_topology.hpp"
#include "launcher/agent/settings.hpp"

namespace llmlaunch::launcher::agent {

struct Binding {
  std::vector<CpuList> cpus;      ///< of each rank; empty with CpuBind::none: whatever the agent has
  std::uint32_t least_cores = 0;  ///< that a rank has for itself, at least 1
  std::string note;               ///< what was wished for and could not be had; empty: nothing
};

/// The index of the GPU that local rank `local` uses, in PCI order, from its CUDA_VISIBLE_DEVICES; a list of one is
/// that one for every rank. nullopt for a UUID, or a list that ends before.
std::optional<unsigned> gpu_of_rank(const std::string* visible_devices, unsigned local);

///     core   equal shares of all cores, neighbours together
///     numa   ranks spread over the NUMA nodes in order; those of one node share its cores equally
///     gpu    each rank on the node of its GPU; those of one node share its cores equally. Where a node is not known
///            (virtual machines say -1): as numa, with a note
///
/// `gpus`: of each rank, as gpu_of_rank says. Errc::out_of_resources for more ranks than CPUs, on the host or a node.
Result<Binding> bind_ranks(CpuBind policy, const CpuTopology& topology,
                           const std::vector<std::optional<unsigned>>& gpus);

}  // namespace llmlaunch::launcher::agent
