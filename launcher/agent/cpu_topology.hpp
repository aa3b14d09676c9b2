/// \file
/// What /sys says about a host's cores, NUMA nodes and NVIDIA GPUs, as far as binding ranks needs it. Read by
/// ourselves: Debian's libhwloc.a needs a static libudev, which Debian does not have, and the agent is static.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::launcher::agent {

// A number of a CPU or node beyond this is no kernel's (CONFIG_NR_CPUS is at most 8192).
inline constexpr unsigned kMaxCpus = 16'384;

/// Numbers as the kernel counts CPUs (hardware threads), in order, each once.
using CpuList = std::vector<unsigned>;

/// "0-3,8,10-11", as /sys and cpusets write it; what is no such list is empty.
CpuList parse_cpu_list(std::string_view text);
/// "0-3,8": the other way.
std::string format_cpu_list(const CpuList& cpus);

struct Core {
  unsigned node = 0;
  CpuList cpus;  ///< its hardware threads that may be used
};

struct CpuTopology {
  std::vector<Core> cores;     ///< by node, then in the order of their first CPU
  std::vector<int> gpu_nodes;  ///< of each NVIDIA GPU in the order of CUDA_DEVICE_ORDER=PCI_BUS_ID; -1: not known
};

/// `sys`: "/sys", or a directory that looks like it. Only `allowed` CPUs are in the result; one that /sys does not
/// describe is a core of its own on node 0.
CpuTopology read_topology(const std::string& sys, const CpuList& allowed);

}  // namespace llmlaunch::launcher::agent
