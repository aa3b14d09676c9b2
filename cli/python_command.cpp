// Nothing is looked up here: the program is the hosts' own, and their agents check it.
#include "cli/python_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "cli/option_values.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::agent::PythonRuns;

std::size_t gpus_here(const launcher::EnvList& environment) {
  for (const auto& [name, value] : environment) {
    if (name != "CUDA_VISIBLE_DEVICES") continue;
    return value.empty() || value == "-1" ? 0
                                          : static_cast<std::size_t>(std::count(value.begin(), value.end(), ',')) + 1;
  }
  std::error_code none;
  const std::filesystem::directory_iterator gpus("/proc/driver/nvidia/gpus", none);
  return none ? 0 : static_cast<std::size_t>(std::distance(begin(gpus), end(gpus)));
}

}  // namespace

launcher::Command python_command(const RunOptions& options, const std::string& python) {
  launcher::Command command;
  command.argv = options.command;
  const bool script = !options.module && command.argv.front().ends_with(".py");
  if (options.no_python || (!script && !options.module)) return command;
  std::vector<std::string> before{python.empty() ? "python3" : python, "-u"};
  if (options.module) before.emplace_back("-m");
  command.argv.insert(command.argv.begin(), before.begin(), before.end());
  command.python = options.module ? PythonRuns::module : PythonRuns::script;
  return command;
}

Result<std::uint32_t> devices_here(const std::string& kind, const launcher::Config& config,
                                   const launcher::EnvList& environment) {
  const bool elsewhere = std::any_of(config.hosts.begin(), config.hosts.end(),
                                     [](const launcher::HostConfig& host) { return host.name != "localhost"; });
  if (elsewhere)
    return usage(fmt::format("--nproc-per-node {}: what other hosts have is not known before they are reached", kind),
                 "give a number, or slots for each host");
  const std::size_t gpus = kind == "cpu" ? 0 : gpus_here(environment);
  if (gpus > 0) return static_cast<std::uint32_t>(gpus);
  if (kind == "gpu")
    return usage("--nproc-per-node gpu: this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides them", "");
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace llmlaunch::cli
