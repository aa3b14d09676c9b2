// Real processes with and without the two variables, and one that has an agent above it.
#include "launcher/agent/left_processes.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>

#include "launcher/agent/process.hpp"
#include "rendezvous/base/whole_number.hpp"
#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_left_processes_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

/// A program in a process of its own, whose first line of output is here when it is made.
class Started {
 public:
  Started(const std::string& program, const std::string& script, std::vector<std::string> environment) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::vector<char*> variables;
    for (std::string& one : environment) variables.push_back(one.data());
    variables.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      ::execle(program.c_str(), program.c_str(), "-c", script.c_str(), nullptr, variables.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) line_ += c;
    ::close(ends[0]);
  }
  ~Started() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  pid_t pid() const { return pid_; }
  /// Its status as waitpid gives it; -1: it lives.
  int ended() {
    int status = -1;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) pid_ = -1;
    return status;
  }
  const std::string& line() const { return line_; }

 private:
  pid_t pid_ = -1;
  std::string line_;
};

/// What the shell has forked is the shell at first.
bool runs(pid_t pid, const std::string& name) {
  return name_of(pid).find("(" + name + ")") != std::string::npos;
}

constexpr const char* kStay = "echo here; exec sleep 600";

TEST_CASE("orphans of a job are those that have both of its variables and no agent above them") {
  const test::TemporaryDirectory top;
  const std::string job = "LLMLAUNCH_JOB_ID=" + top.str(), host = "LLMLAUNCH_HOST=gpu01";
  const std::string path = std::string("PATH=") + std::getenv("PATH");
  CHECK(orphans_with({job, host})->empty());
  Started orphan("/bin/sh", kStay, {path, job, "OTHER=" + host, host});
  const Started other_host("/bin/sh", kStay, {path, job, host + "0"});
  const Started other_job("/bin/sh", kStay, {path, job + "0", host});
  const std::string agent = top.str() + "/agent-0123";
  std::filesystem::create_symlink("/bin/sh", agent);
  const Started cared_for(agent, fmt::format("'{}' '{}' sleep 600 & echo $!; wait", "env", job + "' '" + host), {path});
  const auto below = parse_whole<pid_t>(cared_for.line());
  REQUIRE(below);
  CHECK(parent_of(*below) == cared_for.pid());
  while (!runs(*below, "sleep")) ::sched_yield();
  CHECK(*orphans_with({job, host}) == std::vector<pid_t>{orphan.pid()});

  // A zombie has no environment any more: it counts as ended.
  CHECK(kill_orphans_with({job, host})->empty());
  const int status = orphan.ended();
  CHECK((status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  for (const pid_t lives : {other_host.pid(), other_job.pid(), *below}) CHECK(::kill(lives, 0) == 0);
  ::kill(*below, SIGKILL);
}

}  // namespace launcher_agent_left_processes_test
