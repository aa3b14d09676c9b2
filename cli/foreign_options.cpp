// One row for each option; names are those after '_' has become '-'.
#include "cli/foreign_options.hpp"

#include <algorithm>
#include <array>

namespace llmlaunch::cli {
namespace {

struct Row {
  std::string_view option;
  std::string_view instead;
};

constexpr std::string_view kHosts = "the machines are those of --hosts, --hostfile or llmlaunch.hosts";
constexpr std::string_view kOrder = "nothing is to be said for it: the order of the hosts is the order of the ranks";
constexpr std::string_view kAddress =
    "main_process_ip and main_process_port of the configuration, if the head's own will not do";
constexpr std::string_view kRendezvous = "nothing is to be said for it: llmlaunch serves the rendezvous itself";
constexpr std::string_view kPrecision = "mixed_precision of the configuration";
constexpr std::string_view kType = "distributed_type of the configuration";
constexpr std::string_view kModule = "name the interpreter: llmlaunch run python -m MODULE";
constexpr std::string_view kPrefix = "--prefix; each line has its rank and host in front of it in any case";

constexpr std::array kRows{
    Row{"--num-machines", kHosts},
    Row{"--nnodes", kHosts},
    Row{"--num-nodes", kHosts},
    Row{"--host", kHosts},
    Row{"--include", kHosts},
    Row{"--machine-rank", kOrder},
    Row{"--node-rank", kOrder},
    Row{"--main-process-ip", kAddress},
    Row{"--main-process-port", kAddress},
    Row{"--master-addr", kAddress},
    Row{"--master-port", kAddress},
    Row{"--rdzv-backend", kRendezvous},
    Row{"--rdzv-endpoint", kRendezvous},
    Row{"--rdzv-id", kRendezvous},
    Row{"--rdzv-conf", kRendezvous},
    Row{"--standalone", kRendezvous},
    Row{"--same-network", kRendezvous},
    Row{"--mixed-precision", kPrecision},
    Row{"--multi-gpu", kType},
    Row{"--use-deepspeed", kType},
    Row{"--use-fsdp", kType},
    Row{"--cpu", "use_cpu: true in the configuration"},
    Row{"--gpu-ids", "gpu_ids of the configuration"},
    Row{"--num-gpus", "--nproc-per-node"},
    Row{"--nproc", "--nproc-per-node, or --num-processes"},
    Row{"--np", "--num-processes"},
    Row{"--npernode", "--nproc-per-node"},
    Row{"--module", kModule},
    Row{"--no-python", "nothing is to be said for it: the program is any program"},
    Row{"--tee", kPrefix},
    Row{"--tag-output", kPrefix},
    Row{"--redirects", "--log-dir; each rank has its files there in any case"},
    Row{"--enable-cpu-affinity", "--cpu-bind gpu"},
    Row{"--bind-to", "--cpu-bind"},
};

}  // namespace

std::string_view instead_of_foreign(std::string_view option) {
  const auto row = std::find_if(kRows.begin(), kRows.end(), [option](const Row& one) { return one.option == option; });
  return row == kRows.end() ? std::string_view{} : row->instead;
}

}  // namespace llmlaunch::cli
