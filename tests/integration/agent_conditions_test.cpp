// What the real agent gives real ranks beside their program: limits, umask, cores, the environment of setup lines,
// stdin, a pause, a cgroup of the job.
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace agent_conditions_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using llmlaunch::test::AgentDriver;
using llmlaunch::test::Lifeline;
using llmlaunch::test::TemporaryDirectory;
using Lines = std::vector<std::string>;
namespace fs = std::filesystem;

namespace {

const std::string kProgram = AGENT_PROGRAM;
constexpr std::uint32_t kHour = 3'600'000;

Prepare job(const std::string& script, std::uint32_t ranks = 1) {
  return AgentDriver::job({"sh", "-c", script}, ranks);
}

/// The output of a job that ends by itself, rank by rank.
Lines outputs_of(const Prepare& prepare, const EnvList& environment = {}) {
  AgentDriver agent(kProgram, environment);
  agent.start(prepare);
  agent.run_to_done();
  CHECK(agent.wait_for_end() == 0);
  Lines lines;
  for (const auto& [rank, record] : agent.ranks) {
    CHECK(record.exit.value == 0);
    lines.push_back(record.out);
  }
  return lines;
}

/// Why a host refuses the job; no rank was started.
Failed refusal_of(AgentDriver& agent, const Prepare& prepare) {
  agent.send(prepare);
  AgentMessage answer = agent.next();
  while (std::holds_alternative<Noise>(answer)) answer = agent.next();
  REQUIRE(std::holds_alternative<Failed>(answer));
  agent.send(Stop{});
  agent.expect<Done>();
  CHECK(agent.wait_for_end() == 0);
  return std::get<Failed>(answer);
}

Failed refusal_of(const Prepare& prepare, const EnvList& environment = {}) {
  AgentDriver agent(kProgram, environment);
  return refusal_of(agent, prepare);
}

Input input_at(std::uint64_t offset, std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return {offset, Bytes(bytes.begin(), bytes.end())};
}

/// The letter of a process's state, as /proc has it: R, S, T …
char state_of(std::int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = stat.rfind(')');
  return name_end == std::string::npos ? '-' : stat[name_end + 2];
}

pid_t agent_of(const AgentDriver& driver) {
  return static_cast<pid_t>(driver.hello.pid);
}

std::size_t cores() {
  cpu_set_t set;
  REQUIRE(::sched_getaffinity(0, sizeof(set), &set) == 0);
  return static_cast<std::size_t>(CPU_COUNT(&set));
}

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("ranks have the limits and the umask of the job, and other limits as the host has them") {
  rlimit files{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  Prepare prepare = job("ulimit -n; ulimit -Hn; ulimit -c; umask");
  prepare.settings.limits = {{"nofile", 77}, {"core", 0}};
  prepare.settings.umask = 027;
  CHECK(outputs_of(prepare) == Lines{"77\n" + std::to_string(files.rlim_max) + "\n0\n0027\n"});
}

TEST_CASE("a limit above the hard limit refuses the job before any rank starts") {
  Prepare prepare = job("true");
  rlimit files{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  if (files.rlim_max == RLIM_INFINITY) return;  // no kernel gives that for files
  prepare.settings.limits = {{"nofile", files.rlim_max + 1}};
  const Failed failed = refusal_of(prepare);
  CHECK(failed.code == static_cast<std::int32_t>(Errc::out_of_resources));
  CHECK(failed.what == "limit nofile " + std::to_string(files.rlim_max + 1) + " is above the hard limit there, " +
                           std::to_string(files.rlim_max));
}

TEST_CASE("more ranks than the usual limit of open files has room for start, with that limit") {
  AgentDriver agent(kProgram);
  rlimit usual{};
  REQUIRE(::prlimit(agent_of(agent), RLIMIT_NOFILE, nullptr, &usual) == 0);
  const rlimit low{32, usual.rlim_max};
  REQUIRE(::prlimit(agent_of(agent), RLIMIT_NOFILE, &low, nullptr) == 0);
  agent.start(job("ulimit -n", 40));
  agent.run_to_done();
  CHECK(agent.wait_for_end() == 0);
  CHECK(agent.ranks.size() == 40);
  for (const auto& [rank, record] : agent.ranks) CHECK(record.out == "32\n");
}

TEST_CASE("more ranks than the hard limit of open files has room for are refused before any starts") {
  AgentDriver agent(kProgram);
  const rlimit low{32, 100};
  REQUIRE(::prlimit(agent_of(agent), RLIMIT_NOFILE, &low, nullptr) == 0);
  const Failed failed = refusal_of(agent, job("true", 40));
  CHECK(failed.code == static_cast<std::int32_t>(Errc::out_of_resources));
  CHECK(failed.what == "40 ranks need 224 open files of the agent, and the hard limit there is 100");
}

TEST_CASE("bound ranks have cores of their own, and threads for them") {
  if (cores() < 2) {
    WARN("not checked: there is only one CPU");
    return;
  }
  Prepare prepare = job("grep -o 'Cpus_allowed_list.*' /proc/self/status; echo $OMP_NUM_THREADS", 2);
  prepare.settings.cpu_bind = CpuBind::core;
  prepare.settings.choose_omp_threads = true;
  ::unsetenv("OMP_NUM_THREADS");
  const Lines lines = outputs_of(prepare);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] != lines[1]);
  prepare.settings.cpu_bind = CpuBind::none;
  const Lines free = outputs_of(prepare);
  CHECK(free[0] == free[1]);
  CHECK(outputs_of(prepare, {{"OMP_NUM_THREADS", "5"}})[0].ends_with("\n5\n"));
  prepare.settings.choose_omp_threads = false;
  CHECK(outputs_of(prepare)[0].ends_with("\n\n"));
}

TEST_CASE("setup lines run once in the login shell, and the ranks inherit what they have made of the environment") {
  const TemporaryDirectory home;
  std::ofstream(home.str() + "/.profile") << "echo from the profile; export FROM_PROFILE=1 CONFIGURED=profile\n";
  std::ofstream(home.str() + "/tool") << "#!/bin/sh\necho \"$RANK $FROM_PROFILE $CONFIGURED $MADE $EXTENDED\"\n";
  fs::permissions(home.str() + "/tool", fs::perms::owner_all);
  Prepare prepare = AgentDriver::job({"tool"}, 2);
  prepare.env = {{"CONFIGURED", "by llmlaunch"}, {"EXTENDED", "a"}};
  prepare.settings.setup = {"echo once >>count", "MADE=$(printf 'two\\nlines'); export MADE",
                            "EXTENDED=$EXTENDED:b; PATH=$PWD:$PATH"};
  prepare.workdir = home.str();
  const EnvList login = {{"HOME", home.str()}, {"SHELL", "/bin/sh"}, {"PATH", "/usr/bin:/bin"}};
  AgentDriver agent(kProgram, login);
  agent.send(prepare);
  AgentMessage answer = agent.next();
  Lines noise;
  for (; std::holds_alternative<Noise>(answer); answer = agent.next()) noise.push_back(std::get<Noise>(answer).text);
  CHECK(noise == Lines{"from the profile"});
  REQUIRE(std::holds_alternative<Ready>(answer));
  agent.send(Go{});
  agent.run_to_done();
  CHECK(agent.ranks[0].out == "0 1 by llmlaunch two\nlines a:b\n");
  CHECK(agent.ranks[1].out == "1 1 by llmlaunch two\nlines a:b\n");
  CHECK(text_of(home.str() + "/count") == "once\n");
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("a setup line that fails, ends the shell or does not parse refuses the job, with its number") {
  const EnvList login = {{"HOME", "/nonexistent"}, {"SHELL", "/bin/bash"}};
  const auto what = [&](const Lines& lines) {
    Prepare prepare = job("true");
    prepare.settings.setup = lines;
    return refusal_of(prepare, login).what;
  };
  CHECK(what({"true", "echo no such module >&2; false"}) ==
        "setup line 2 'echo no such module >&2; false' failed with status 1\n"
        "   the last line that was printed:\n     | no such module");
  CHECK(what({"exit 3"}) == "setup line 1 'exit 3' failed with status 3\n   it printed nothing");
  CHECK(what({"exit 0"}) == "setup line 1 'exit 0' ended the shell\n   it printed nothing");
  CHECK(what({"true", "if"}).starts_with("setup line 2 'if' failed with status "));
}

TEST_CASE("setup lines have a time limit, and what they leave in the background ends with the job") {
  Lifeline lifeline;
  Prepare prepare = job("true");
  prepare.env = {{"LIFELINE", lifeline.path()}};
  prepare.settings.setup = {"exec 7>\"$LIFELINE\"; sleep 1000 & echo begun; wait"};
  prepare.settings.start_timeout_ms = 2'000;  // on a busy machine the login shell alone may take a part of it
  CHECK(refusal_of(prepare, {{"HOME", "/nonexistent"}, {"SHELL", "/bin/sh"}}).what ==
        "setup line 1 'exec 7>\"$LIFELINE\"; sleep 1000 & echo begun; wait' did not end within 2 s\n"
        "   the last line that was printed:\n     | begun");
  lifeline.wait_until_released();
}

TEST_CASE("a setup line that prints without end has the same time limit, and does not keep the agent from its work") {
  Lifeline lifeline;
  Prepare prepare = job("true");
  prepare.env = {{"LIFELINE", lifeline.path()}};
  // Two of them, so that the pipe is full whenever it is looked at.
  prepare.settings.setup = {"exec 7>\"$LIFELINE\"; yes & yes"};
  prepare.settings.start_timeout_ms = 2'000;
  const Failed failed = refusal_of(prepare, {{"HOME", "/nonexistent"}, {"SHELL", "/bin/sh"}});
  CHECK(failed.what.starts_with("setup line 1 'exec 7>\"$LIFELINE\"; yes & yes' did not end within 2 s\n"));
  lifeline.wait_until_released();
}

TEST_CASE("a head that is lost while setup lines run leaves nothing of them") {
  Lifeline lifeline;
  Prepare prepare = job("true");
  prepare.env = {{"LIFELINE", lifeline.path()}};
  prepare.settings.setup = {"exec 7>\"$LIFELINE\"; setsid sleep 1000 & echo begun; wait"};
  prepare.settings.start_timeout_ms = kHour;
  AgentDriver agent(kProgram);
  agent.send(prepare);
  CHECK(agent.expect<Noise>().text == "begun");
  agent.hang_up();
  lifeline.wait_until_released();
  CHECK(agent.wait_for_end() == 69);
}

TEST_CASE("stdin reaches the ranks that read it, byte for byte to its end; the others read nothing") {
  Prepare prepare = job("cat; echo end", 3);
  prepare.settings.stdin_ranks = {0, 2};
  AgentDriver agent(kProgram);
  agent.start(prepare);
  std::string sent;
  for (int piece = 0; piece < 40; ++piece) {  // 400 kB through a window of 64 KiB
    std::string bytes(10'000, static_cast<char>(piece));
    agent.send(input_at(sent.size(), bytes));
    sent += bytes;
    if (sent.size() > kInputWindowBytes) agent.run_until_input_taken(sent.size() - kInputWindowBytes + 10'000);
  }
  agent.send(InputEnd{});
  agent.run_to_done();
  CHECK(agent.ranks[0].out == sent + "end\n");
  CHECK(agent.ranks[1].out == "end\n");
  CHECK(agent.ranks[2].out == sent + "end\n");
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("a rank that does not read holds back its input and nothing else") {
  Prepare prepare = job("echo up; exec sleep 1000");
  prepare.settings.stdin_ranks = {0};
  AgentDriver agent(kProgram);
  agent.start(prepare);
  agent.run_until_said(0, "up");
  // The pipe takes 64 KiB; of what follows nothing is taken.
  agent.send(input_at(0, std::string(kInputWindowBytes, 'x')));
  agent.run_until_input_taken(kInputWindowBytes);
  agent.send(input_at(kInputWindowBytes, std::string(kInputWindowBytes, 'x')));
  agent.send(input_at(2 * kInputWindowBytes, "x"));
  while (agent.failures.empty()) REQUIRE(agent.step());  // a head that goes beyond the window is refused
  CHECK(agent.failures[0].what == "more input than its window of 65536 bytes");
}

TEST_CASE("ranks that close their stdin or end take nothing from the head any more") {
  Prepare prepare = job("[ $RANK = 1 ] && exit; exec <&-; echo up; exec sleep 1000", 2);
  prepare.settings.stdin_ranks = {0, 1};
  AgentDriver agent(kProgram);
  agent.start(prepare);
  agent.run_until_said(0, "up");
  agent.run_until_exited(1);
  agent.run_until_input_taken(kNobodyReads);
  agent.send(Stop{SIGKILL, 0});
}

TEST_CASE("a pause stops every process of the ranks' groups, and going on continues them") {
  Prepare prepare = job("sleep 1000 & echo $!; wait", 2);
  prepare.head_timeout_ms = 1'000;  // below the time that the pause takes
  AgentDriver agent(kProgram);
  agent.start(prepare);
  for (std::uint32_t rank = 0; rank < 2; ++rank) agent.run_until_said(rank, "\n");
  agent.send(Pause{true});
  agent.run_until_paused();
  for (int ping = 0; ping < 5; ++ping) agent.next_ping();  // one in 333 ms: the lease would be over
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    CHECK(state_of(agent.ranks[rank].pid) == 'T');
    CHECK(state_of(std::stoll(agent.ranks[rank].out)) == 'T');
  }
  agent.send(Pause{false});
  agent.send(Ping{});
  agent.next_ping();
  for (std::uint32_t rank = 0; rank < 2; ++rank) CHECK(state_of(agent.ranks[rank].pid) != 'T');
  CHECK(agent.wait_for_end() == 69);  // and without a sign of the head the lease ends the job
}

TEST_CASE("a head that dies during a pause leaves nothing behind") {
  Lifeline lifeline;
  Prepare prepare = job("exec 9>\"$LIFELINE\"; echo up; sleep 1000 & wait", 2);
  prepare.env = {{"LIFELINE", lifeline.path()}};
  prepare.head_timeout_ms = kHour;
  AgentDriver agent(kProgram);
  agent.start(prepare);
  for (std::uint32_t rank = 0; rank < 2; ++rank) agent.run_until_said(rank, "up");
  agent.send(Pause{true});
  agent.run_until_paused();
  agent.hang_up();
  lifeline.wait_until_released();
  CHECK(agent.wait_for_end() == 69);
}

}  // namespace agent_conditions_test
