/// \file
/// A job on fake hosts, run by the real run_job: its plan, its hosts' agents, and files for what it prints.
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launcher/launch.hpp"
#include "rendezvous/base/unique_fd.hpp"
#include "tests/support/fake_remote_shell.hpp"
#include "tests/support/temporary_directory.hpp"

namespace llmlaunch::testing {

/// `hosts` × `ranks_each`, named gpu01, gpu02, … in a directory of its own.
struct FakeJob {
  FakeJob(std::size_t hosts, std::uint32_t ranks_each) {
    plan.job_id = "job-1";
    for (std::size_t index = 0; index < hosts; ++index) {
      launcher::HostPlan host;
      host.name = "gpu0" + std::to_string(index + 1);
      host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
      host.address = "192.0.2." + std::to_string(index + 1);
      for (std::uint32_t local = 0; local < ranks_each; ++local)
        host.ranks.push_back({Rank{plan.world_size++}, local, {}});
      plan.hosts.push_back(std::move(host));
      agents.push_back(std::make_shared<FakeAgent>());
    }
    options.stdout_fd = out_file.value();
    options.stderr_fd = err_file.value();
    options.make_shell = [this](const asio::any_io_executor& executor, const launcher::HostPlan& host) {
      return std::make_shared<FakeRemoteShell>(executor, host.address, agents[number(host.node_rank)]);
    };
  }
  FakeJob(const FakeJob&) = delete;
  FakeJob& operator=(const FakeJob&) = delete;

  launcher::JobResult run() {
    auto result = launcher::run_job(plan, options);
    REQUIRE(result);
    return *result;
  }
  std::string out() const { return test::content_of(top.path / "out"); }
  std::string err() const { return test::content_of(top.path / "err"); }

  static UniqueFd new_file(const std::filesystem::path& path) {
    return UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }

  test::TemporaryDirectory top;
  UniqueFd out_file = new_file(top.path / "out"), err_file = new_file(top.path / "err");
  launcher::LaunchPlan plan;
  launcher::LaunchOptions options;
  std::vector<std::shared_ptr<FakeAgent>> agents;
};

}  // namespace llmlaunch::testing
