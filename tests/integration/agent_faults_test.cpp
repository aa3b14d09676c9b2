// What the agent does when something goes wrong: stops, a head that dies, ranks that do not want to end, and processes
// that try to get away. "All gone" is the end of file of a FIFO that every process of the job has inherited.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace agent_faults_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using llmlaunch::test::AgentDriver;
using llmlaunch::test::Lifeline;

namespace {

const std::string kProgram = AGENT_PROGRAM;
constexpr std::uint32_t kHour = 3'600'000;

// A job whose processes all hold the lifeline. dash's `sleep` children inherit descriptor 9 as well.
Prepare held_job(const Lifeline& lifeline, const std::string& script, std::uint32_t ranks = 1) {
  std::string held = "exec 9>\"$LIFELINE\"; ";
  held += script;
  Prepare prepare = AgentDriver::job({"sh", "-c", held}, ranks);
  prepare.env.emplace_back("LIFELINE", lifeline.path());
  prepare.grace_ms = kHour;
  return prepare;
}

// Ends only by SIGKILL; says "up" when it ignores the others.
const std::string kStubborn = "trap '' TERM INT HUP; echo up; while :; do sleep 1000; done";
// Two forks and a session of its own, as a daemon does it.
const std::string kDaemon = "(setsid sh -c \"trap '' TERM; echo up; while :; do sleep 1000; done\" &) & ";

int wait_status(pid_t pid) {
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WEXITSTATUS(status);
}

std::string say_version(const char* argument, int& status) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::execl(kProgram.c_str(), "llmlaunch-agent", argument, static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string text;
  char piece[1000];
  for (ssize_t got = 0; (got = ::read(ends[0], piece, sizeof(piece))) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  ::close(ends[0]);
  status = wait_status(pid);
  return text;
}

}  // namespace

TEST_CASE("the agent's command line has a version and nothing else") {
  int status = -1;
  CHECK(say_version("--version", status) == "llmlaunch-agent " LLMLAUNCH_VERSION " (protocol 5)\n");
  CHECK(status == 0);
  CHECK(say_version("--debug", status) ==
        "llmlaunch-agent: error: unexpected argument '--debug'\n"
        "   hint: llmlaunch starts this program; use `llmlaunch run`\n");
  CHECK(status == 64);
}

TEST_CASE("a Stop reaches the main process, which ends in its own way") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done", 2));
  agent.run_until_said(0, "up");
  agent.run_until_said(1, "up");
  agent.send(Stop{15, kHour});
  agent.run_to_done();
  for (const std::uint32_t rank : {0u, 1u}) {
    CHECK(agent.ranks[rank].exit.value == 7);
    CHECK_FALSE(agent.ranks[rank].exit.signaled);
    CHECK(agent.ranks[rank].exit.stopped);
  }
  CHECK(agent.wait_for_end() == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a rank that ignores SIGTERM is killed after the grace, with its children") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "sh -c \"trap '' TERM; sleep 1000\" & " + kStubborn));
  agent.run_until_said(0, "up");
  agent.send(Stop{15, 100});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.signaled);
  CHECK(agent.ranks[0].exit.value == 9);
  CHECK(agent.ranks[0].exit.stopped);
  CHECK(agent.wait_for_end() == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a second Stop without grace does not wait for the first one's") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, kStubborn));
  agent.run_until_said(0, "up");
  agent.send(Stop{15, kHour});
  agent.send(Stop{15, 0});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 9);
  lifeline.wait_until_released();
}

TEST_CASE("a stopped rank takes its SIGTERM") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "trap 'exit 5' TERM; echo up; kill -STOP $$; while :; do sleep 0.05; done"));
  agent.run_until_said(0, "up");
  // The rank is the agent's child, so its state is read where anybody may look.
  for (std::string state; state != "T";) {
    const int fd = ::open(("/proc/" + std::to_string(agent.ranks[0].pid) + "/stat").c_str(), O_RDONLY);
    char text[200] = {};
    REQUIRE(::read(fd, text, sizeof(text) - 1) > 0);
    ::close(fd);
    state = std::string(text).substr(std::string(text).rfind(')') + 2, 1);
  }
  agent.send(Stop{15, kHour});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 5);
  lifeline.wait_until_released();
}

TEST_CASE("a Stop before Go is answered by Done") {
  for (const bool prepared : {false, true}) {
    AgentDriver agent(kProgram);
    if (prepared) {
      agent.send(AgentDriver::job({"true"}));
      agent.expect<Ready>();
    }
    agent.send(Stop{15, kHour});
    agent.expect<Done>();
    CHECK(agent.wait_for_end() == 0);
  }
}

TEST_CASE("what a finished rank leaves in its group gets SIGTERM, then SIGKILL") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  Prepare prepare = held_job(lifeline,
                             "trap 'exit 0' USR1; sh -c \"trap '' TERM; echo up; sleep 1000\" & "
                             "sh -c \"trap 'echo asked; exit' TERM; echo polite; while :; do sleep 0.05; done\" & "
                             "while :; do sleep 0.05; done");
  prepare.grace_ms = 200;
  agent.start(prepare);
  agent.run_until_said(0, "up");
  agent.run_until_said(0, "polite");
  agent.send(Signal{SIGUSR1});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 0);
  CHECK(agent.ranks[0].out.find("asked") != std::string::npos);
  lifeline.wait_until_released();
}

TEST_CASE("a daemon that a finished rank has started is gone at the end") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  Prepare prepare = held_job(lifeline, "trap 'exit 0' USR1; " + kDaemon + "while :; do sleep 0.05; done");
  prepare.grace_ms = 100;
  agent.start(prepare);
  agent.run_until_said(0, "up");
  agent.send(Signal{SIGUSR1});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 0);
  CHECK(agent.wait_for_end() == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a rank's end is known although its daemon holds its output open, and the other rank goes on") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline,
                       "if [ $RANK = 0 ]; then trap 'exit 3' USR1; " + kDaemon +
                           "else "
                           "trap '' USR1; trap 'echo going; exit 0' USR2; echo up; fi; "
                           "while :; do sleep 0.05; done",
                       2));
  agent.run_until_said(0, "up");
  agent.run_until_said(1, "up");
  agent.send(Signal{SIGUSR1});
  agent.run_until_exited(0);
  CHECK(agent.ranks[0].exit.value == 3);
  CHECK_FALSE(agent.ranks[0].out_ended);
  agent.send(Signal{SIGUSR2});
  agent.run_until_exited(1);
  agent.send(Stop{15, 0});
  agent.run_to_done();
  CHECK(agent.ranks[1].out == "up\ngoing\n");
  CHECK(agent.ranks[0].out_ended);
  lifeline.wait_until_released();
}

TEST_CASE("two hundred children in groups and sessions of their own are all gone after a Stop") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline,
                       "trap '' TERM; i=0; while [ $i -lt 100 ]; do sleep 1000 & setsid sleep 1000 & "
                       "i=$((i+1)); done; echo up; wait"));
  agent.run_until_said(0, "up");
  agent.send(Stop{15, 100});
  agent.run_to_done();
  CHECK(agent.wait_for_end() == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a rank that forks without end is stopped") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  // At most 300 live at a time, each replaced when it ends: the number of the next victim is never the last one.
  agent.start(held_job(lifeline,
                       "trap '' TERM; echo up; f() { setsid sh -c 'sleep 0.2' & }; "
                       "while :; do i=0; while [ $i -lt 20 ]; do f; i=$((i+1)); done; wait; done"));
  agent.run_until_said(0, "up");
  agent.send(Stop{15, 0});
  agent.run_to_done();
  CHECK(agent.wait_for_end() == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a head that hangs up takes everything with it, after the grace") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  Prepare prepare = held_job(lifeline, kDaemon + kStubborn);
  prepare.grace_ms = 100;
  agent.start(prepare);
  agent.run_until_said(0, "up\nup");
  agent.hang_up();
  CHECK(agent.wait_for_end() == 69);
  lifeline.wait_until_released();
}

TEST_CASE("a rank may still write while it is stopped for a head that is gone") {
  Lifeline lifeline;
  test::TemporaryDirectory directory;
  AgentDriver agent(kProgram);
  // More than a pipe holds: it only gets to the end when somebody reads.
  Prepare prepare = held_job(lifeline,
                             "trap 'seq 1 100000 && echo saved >\"$DIRECTORY/saved\"; exit 0' TERM; echo up; "
                             "while :; do sleep 0.05; done");
  prepare.env.emplace_back("DIRECTORY", directory.str());
  agent.start(prepare);
  agent.run_until_said(0, "up");
  agent.hang_up();
  CHECK(agent.wait_for_end() == 69);
  CHECK(::access((directory.str() + "/saved").c_str(), R_OK) == 0);
  lifeline.wait_until_released();
}

TEST_CASE("a head that falls silent is a head that is gone") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  Prepare prepare = held_job(lifeline, "echo up; while :; do sleep 1000; done");
  prepare.head_timeout_ms = 500;
  agent.auto_ack = false;
  agent.start(prepare);
  CHECK(agent.wait_for_end() == 69);
  lifeline.wait_until_released();
}

TEST_CASE("Pings keep the agent patient, and it sends its own") {
  AgentDriver agent(kProgram);
  Prepare prepare = AgentDriver::job({"sh", "-c", "trap 'exit 0' USR1; while :; do sleep 0.05; done"});
  prepare.head_timeout_ms = 1'500;
  agent.start(prepare);
  // Five of them come in a longer time than the agent would wait for a silent head.
  for (int i = 0; i < 5; ++i) {
    agent.next_ping();
    agent.send(Ping{});
  }
  agent.send(Signal{SIGUSR1});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 0);
  CHECK_FALSE(agent.ranks[0].exit.stopped);
}

TEST_CASE("kill -9 of the agent leaves nothing, not even a daemon of a rank") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, kDaemon + kStubborn, 2));
  agent.run_until_said(0, "up\nup");
  agent.run_until_said(1, "up\nup");
  REQUIRE(::kill(static_cast<pid_t>(agent.hello.pid), SIGKILL) == 0);
  lifeline.wait_until_released();
  CHECK(agent.wait_for_end() == 70);
}

TEST_CASE("kill -9 of the watchman makes the agent stop its ranks in order") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  Prepare prepare = held_job(lifeline, kDaemon + kStubborn);
  prepare.grace_ms = 100;
  agent.start(prepare);
  agent.run_until_said(0, "up\nup");
  REQUIRE(::kill(agent.pid, SIGKILL) == 0);
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.stopped);
  lifeline.wait_until_released();
  CHECK(agent.wait_for_end() == 128 + SIGKILL);
}

TEST_CASE("kill -9 of agent and watchman at once leaves no rank") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "trap '' TERM; echo up; exec sleep 1000", 2));
  agent.run_until_said(0, "up");
  agent.run_until_said(1, "up");
  REQUIRE(::kill(agent.pid, SIGSTOP) == 0);  // it shall not notice
  REQUIRE(::kill(static_cast<pid_t>(agent.hello.pid), SIGKILL) == 0);
  REQUIRE(::kill(agent.pid, SIGKILL) == 0);
  lifeline.wait_until_released();
  CHECK(agent.wait_for_end() == 128 + SIGKILL);
}

TEST_CASE("SIGTERM to the agent stops the ranks and is reported") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"));
  agent.run_until_said(0, "up");
  REQUIRE(::kill(agent.pid, SIGTERM) == 0);
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 6);
  CHECK(agent.ranks[0].exit.stopped);
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("a head of another version is told so, and nothing is started") {
  AgentDriver agent(kProgram);
  agent.send_bytes(std::move(FrameEncoder(1).u16(kProtocolVersion + 1).text("later fields")).finish());
  const Failed failed = agent.expect<Failed>();
  CHECK(failed.code == static_cast<int>(Errc::version_mismatch));
  CHECK(failed.what == "the head speaks version 6 of the agent protocol, this side speaks version 5");
  agent.hang_up();
  CHECK(agent.wait_for_end() == 69);
}

TEST_CASE("bytes that are no messages end the job") {
  Lifeline lifeline;
  AgentDriver agent(kProgram);
  agent.start(held_job(lifeline, "echo up; while :; do sleep 1000; done"));
  agent.run_until_said(0, "up");
  agent.send_bytes(as_bytes(std::string_view("GET / HTTP/1.1\r\n\r\n")));
  const Failed failed = agent.expect<Failed>();
  CHECK(failed.code == static_cast<int>(Errc::too_large));
  CHECK(agent.wait_for_end() == 69);
  lifeline.wait_until_released();
}

TEST_CASE("messages out of their turn are refused by name") {
  const std::vector<std::pair<HeadMessage, std::string>> rows = {
      {Go{}, "the head sent a Go that no Ready was sent for"},
      {FileChunk{}, "the head sent a FileChunk that was not asked for"},
      {Ack{1}, "the head sent an Ack or Signal before Go"},
      {Signal{9}, "the head sent an Ack or Signal before Go"},
      {Stop{99, 0}, "the head sent Stop with signal 99"},
  };
  for (const auto& [message, what] : rows) {
    AgentDriver agent(kProgram);
    agent.send(message);
    const Failed failed = agent.expect<Failed>();
    CHECK(failed.code == static_cast<int>(Errc::protocol));
    CHECK(failed.what == what);
    CHECK(agent.wait_for_end() == 69);
  }
}

}  // namespace agent_faults_test
