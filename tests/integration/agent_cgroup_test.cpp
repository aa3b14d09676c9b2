// The cgroup of a job, with the real agent. Where this user may make none the agent goes without, and so do these
// tests.
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace agent_cgroup_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using llmlaunch::test::AgentDriver;
namespace fs = std::filesystem;

namespace {

const std::string kProgram = AGENT_PROGRAM;

Prepare job(const std::string& script) {
  return AgentDriver::job({"sh", "-c", script});
}

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The directory of this job's cgroup; empty when there is none.
std::string cgroup_of(const std::string& job_id) {
  for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    std::error_code gone;  // cgroups of others, while they are looked through
    for (fs::recursive_directory_iterator entry(mount, gone), end; !gone && entry != end; entry.increment(gone))
      if (entry->path().filename() == "llmlaunch-" + job_id + "-here") return entry->path().string();
  }
  return {};
}

/// Processes that were killed are on their way.
void wait_until_empty(const std::string& cgroup) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!text_of(cgroup + "/cgroup.procs").empty()) {
    REQUIRE(std::chrono::steady_clock::now() < until);
    ::sched_yield();
  }
}

}  // namespace

TEST_CASE("the job's cgroup holds all of it, and is gone afterwards, also when the agent was killed") {
  const std::string before = text_of("/proc/self/cgroup");
  Prepare prepare = job("(setsid sh -c 'echo inside; sleep 1000' &); grep ^0:: /proc/self/cgroup; sleep 1000");
  prepare.job_id = "cgroup-test-" + std::to_string(::getpid());
  for (const bool killed : {false, true}) {
    AgentDriver agent(kProgram);
    agent.start(prepare);
    agent.run_until_said(0, "inside");
    agent.run_until_said(0, "0::");
    const bool inside = agent.ranks[0].out.find("/llmlaunch-" + prepare.job_id + "-here\n") != std::string::npos;
    if (!inside) {
      WARN("not checked: no cgroup can be made here");
      return;
    }
    const std::string directory = cgroup_of(prepare.job_id);
    REQUIRE_FALSE(directory.empty());
    if (killed)
      ::kill(static_cast<pid_t>(agent.hello.pid), SIGKILL);
    else
      agent.send(Stop{SIGTERM, 0});
    CHECK(agent.wait_for_end() == (killed ? 70 : 0));
    CHECK_FALSE(fs::exists(directory));
  }
  CHECK(text_of("/proc/self/cgroup") == before);
}

TEST_CASE("the cgroup of a job whose agent and watchman were killed at once is removed by the next agent that ends") {
  Prepare prepare = job("echo up; exec sleep 1000");
  prepare.job_id = "20000101-" + std::to_string(::getpid());
  std::string left;
  {
    AgentDriver agent(kProgram);
    agent.start(prepare);
    agent.run_until_said(0, "up");
    left = cgroup_of(prepare.job_id);
    if (left.empty()) {
      WARN("not checked: no cgroup can be made here");
      return;
    }
    for (const pid_t pid : {agent.pid, static_cast<pid_t>(agent.hello.pid)}) ::kill(pid, SIGSTOP);
    for (const pid_t pid : {agent.pid, static_cast<pid_t>(agent.hello.pid)}) ::kill(pid, SIGKILL);
    CHECK(agent.wait_for_end() == 128 + SIGKILL);
    wait_until_empty(left);
  }
  CHECK(fs::exists(left));
  Prepare next = job("true");
  next.job_id = prepare.job_id + "-2";
  AgentDriver agent(kProgram);
  agent.start(next);
  agent.run_to_done();
  CHECK(agent.wait_for_end() == 0);
  CHECK_FALSE(fs::exists(left));
}

}  // namespace agent_cgroup_test
