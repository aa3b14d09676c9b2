// A whole job on hosts that are agents over socket pairs: launch, barrier, one line of each rank, then Ctrl-C. What ssh
// costs is left out; what is left is the head's own work, and this machine's for three processes per host.
//
//     bench_simulated_hosts AGENT RANK-PROGRAM HOSTS
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "launcher/launch.hpp"
#include "rendezvous/base/env.hpp"

using namespace llmlaunch::launcher;

namespace {

LaunchPlan plan_of(std::uint32_t hosts, const char* rank_program, const std::string& log_dir) {
  LaunchPlan plan;
  plan.job_id = "bench";
  plan.argv = {rank_program, "stay"};
  plan.log_dir = log_dir;
  plan.world_size = hosts;
  plan.ssh.fanout = hosts;
  for (std::uint32_t index = 0; index < hosts; ++index) {
    HostPlan host;
    host.name = fmt::format("sim{:04}", index);
    host.node_rank = llmlaunch::NodeRank{index};
    host.local = true;
    host.env = {
        {llmlaunch::env::kJobId, plan.job_id}, {llmlaunch::env::kGeneration, "0"}, {llmlaunch::env::kHost, host.name}};
    const llmlaunch::launcher::EnvList env = {{llmlaunch::env::kRank, fmt::to_string(index)},
                                              {llmlaunch::env::kWorldSize, fmt::to_string(hosts)}};
    host.ranks.push_back({llmlaunch::Rank{index}, 0, env});
    plan.hosts.push_back(std::move(host));
  }
  return plan;
}

// Presses Ctrl-C when every rank has written its line.
void stop_after(int fd, std::uint32_t lines) {
  std::array<char, 65536> piece;
  for (std::uint32_t seen = 0; seen < lines;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got <= 0) return;
    seen += static_cast<std::uint32_t>(std::count(piece.begin(), piece.begin() + got, '\n'));
  }
  ::kill(::getpid(), SIGINT);
  while (::read(fd, piece.data(), piece.size()) > 0) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  const auto hosts = static_cast<std::uint32_t>(std::atoi(argv[3]));
  std::string top = (std::filesystem::temp_directory_path() / "llmlaunch-bench-XXXXXX").string();
  std::array<int, 2> ends{};
  if (hosts == 0 || ::mkdtemp(top.data()) == nullptr || ::pipe2(ends.data(), O_CLOEXEC) != 0) return 70;
  const LaunchPlan plan = plan_of(hosts, argv[2], top);
  LaunchOptions options;
  options.agent_path = argv[1];
  options.stdout_fd = ends[1];
  options.quiet = true;
  std::thread reader(stop_after, ends[0], hosts);
  const auto result = run_job(plan, options);
  ::close(ends[1]);
  reader.join();
  std::filesystem::remove_all(top);
  if (!result) {
    fmt::print(stderr, "{}\n", to_string(result.error()));
    return 70;
  }
  if (result->exit_status == 130) return 0;
  fmt::print(stderr, "{}\n", result->failure ? to_string(*result->failure) : "it ended before Ctrl-C");
  return 1;
}
