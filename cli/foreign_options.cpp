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
constexpr std::string_view kPrefix = "--prefix; each line has its rank and host in front of it in any case";

constexpr std::array kRows{
    Row{"--host", kHosts},
    Row{"--num-gpus", "--nproc-per-node"},
    Row{"--nproc", "--nproc-per-node, or --num-processes"},
    Row{"--np", "--num-processes"},
    Row{"--npernode", "--nproc-per-node"},
    Row{"--tag-output", kPrefix},
    Row{"--bind-to", "--cpu-bind"},
};

}  // namespace

std::string_view instead_of_foreign(std::string_view option) {
  const auto row = std::find_if(kRows.begin(), kRows.end(), [option](const Row& one) { return one.option == option; });
  return row == kRows.end() ? std::string_view{} : row->instead;
}

}  // namespace llmlaunch::cli
