// What the agent does for ranks that behave: bytes, output, exits, checks before the start, its own size.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace agent_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using llmlaunch::test::AgentDriver;
using llmlaunch::test::TemporaryDirectory;

namespace {

const std::string kProgram = AGENT_PROGRAM;

std::vector<std::string> shell(const std::string& script) {
  return {"sh", "-c", script};
}

std::vector<std::string> split_at_nul(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, '\0');) parts.push_back(part);
  return parts;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Values that a shell, a line protocol or a C string would spoil.
std::vector<std::string> awkward_values() {
  std::string bytes;
  for (int c = 1; c < 256; ++c) bytes += static_cast<char>(c);
  return {"",
          " ",
          "two words",
          "'single' \"double\"",
          "$(touch /tmp/x) `id` $HOME",
          "line one\nline two\n",
          "gr\xc3\xbc\xc3\x9f\x65 \xe6\xbc\xa2",
          "back\\slash",
          "-n",
          bytes,
          std::string(100'000, 'x')};
}

Failed prepare_fails(const Prepare& prepare) {
  AgentDriver agent(kProgram);
  agent.send(prepare);
  const Failed failed = agent.expect<Failed>();
  agent.send(Stop{});
  agent.expect<Done>();
  CHECK(agent.wait_for_end() == 0);
  return failed;
}

[[maybe_unused]] std::int64_t resident_bytes(std::int64_t pid) {
  std::istringstream status(content_of("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) * 1024;
  return -1;
}

}  // namespace

TEST_CASE("the agent tells who it is") {
  AgentDriver agent(kProgram);
  char name[256] = {};
  REQUIRE(::gethostname(name, sizeof(name) - 1) == 0);
  CHECK(agent.hello.hostname == name);
  CHECK(agent.hello.cores > 0);
  CHECK(content_of("/proc/" + std::to_string(agent.hello.pid) + "/cmdline") == kProgram + '\0');
}

TEST_CASE("each rank's exit status arrives with its output, and then Done") {
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job(shell("echo out $RANK; echo err $RANK >&2; exit $((RANK * 3))"), 2));
  agent.run_to_done();
  for (const std::uint32_t rank : {0u, 1u}) {
    const auto& record = agent.ranks[rank];
    CHECK(record.out == "out " + std::to_string(rank) + "\n");
    CHECK(record.err == "err " + std::to_string(rank) + "\n");
    CHECK(record.out_ended);
    CHECK(record.err_ended);
    REQUIRE(record.exited);
    CHECK_FALSE(record.exit.signaled);
    CHECK_FALSE(record.exit.stopped);
    CHECK(record.exit.value == static_cast<int>(rank * 3));
    CHECK(record.exit.wall_time_ns > 1'600'000'000'000'000'000u);
  }
  CHECK(agent.failures.empty());
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("a rank killed by a signal is reported with the signal's number") {
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job(shell("ulimit -c 0; kill -SEGV $$")));
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.signaled);
  CHECK(agent.ranks[0].exit.value == 11);
  CHECK_FALSE(agent.ranks[0].exit.stopped);
}

TEST_CASE("argv arrives byte for byte") {
  std::vector<std::string> argv = {"printf", "%s\\0"};
  const std::vector<std::string> values = awkward_values();
  argv.insert(argv.end(), values.begin(), values.end());
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job(argv));
  agent.run_to_done();
  CHECK(split_at_nul(agent.ranks[0].out) == values);
  CHECK(agent.ranks[0].exit.value == 0);
}

TEST_CASE("environment values arrive byte for byte, later layers win, and ps shows none of them") {
  Prepare prepare = AgentDriver::job({"env", "-0"});
  const std::vector<std::string> values = awkward_values();
  for (std::size_t i = 0; i < values.size(); ++i) prepare.env.emplace_back("VALUE_" + std::to_string(i), values[i]);
  prepare.env.emplace_back("A", "host");
  prepare.env.emplace_back("B", "host");
  prepare.env.emplace_back("C", "host");
  prepare.ranks[0].env.emplace_back("B", "rank");
  prepare.ranks[0].env.emplace_back("C", "rank");
  AgentDriver agent(kProgram, {{"A", "agent"}, {"INHERITED", "yes"}});
  agent.send(prepare);
  agent.expect<Ready>();
  for (const std::int64_t pid : {agent.hello.pid, static_cast<std::int64_t>(agent.pid)}) {
    CHECK(content_of("/proc/" + std::to_string(pid) + "/cmdline") == kProgram + '\0');
    CHECK(content_of("/proc/" + std::to_string(pid) + "/environ").find("VALUE_") == std::string::npos);
  }
  agent.send(Go{{{"C", "go"}}});
  agent.run_to_done();
  const std::vector<std::string> seen = split_at_nul(agent.ranks[0].out);
  const auto has = [&seen](const std::string& entry) { return std::count(seen.begin(), seen.end(), entry) == 1; };
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(has("VALUE_" + std::to_string(i) + "=" + values[i]));
  CHECK(has("A=host"));
  CHECK(has("B=rank"));
  CHECK(has("C=go"));
  CHECK(has("INHERITED=yes"));
  CHECK(has("RANK=0"));
}

TEST_CASE("a rank has /dev/null as stdin, two pipes and no other descriptor, and leads its group") {
  AgentDriver agent(kProgram);
  // Descriptor 3 is the shell's own, of the directory that it lists.
  agent.start(
      AgentDriver::job(shell("for fd in /proc/$$/fd/*; do echo ${fd##*/}; done; readlink /proc/$$/fd/0; "
                             "readlink /proc/$$/fd/1 /proc/$$/fd/2 | cut -c1-5; cut -d' ' -f5 /proc/$$/stat")));
  agent.run_to_done();
  CHECK(agent.ranks[0].out == "0\n1\n2\n3\n/dev/null\npipe:\npipe:\n" + std::to_string(agent.ranks[0].pid) + "\n");
}

TEST_CASE("a rank starts with no signal ignored or blocked") {
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job({"grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"}));
  agent.run_to_done();
  CHECK(agent.ranks[0].out == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_CASE("a rank runs in the working directory, and PWD agrees") {
  TemporaryDirectory directory;
  Prepare prepare = AgentDriver::job(shell("pwd -P; printenv PWD"));
  prepare.workdir = directory.str();
  AgentDriver agent(kProgram);
  agent.start(prepare);
  agent.run_to_done();
  CHECK(agent.ranks[0].out == directory.str() + "\n" + directory.str() + "\n");
}

TEST_CASE("a script without an interpreter line runs by sh, as execvp does it") {
  TemporaryDirectory directory;
  std::ofstream(directory.str() + "/job") << "echo \"$0 $1\"\n";
  REQUIRE(::chmod((directory.str() + "/job").c_str(), 0700) == 0);
  Prepare prepare = AgentDriver::job({"./job", "a b"});
  prepare.workdir = directory.str();
  AgentDriver agent(kProgram);
  agent.start(prepare);
  agent.run_to_done();
  CHECK(agent.ranks[0].out == "./job a b\n");
}

TEST_CASE("a program that cannot be run is refused before any rank starts") {
  TemporaryDirectory directory;
  std::ofstream(directory.str() + "/train.py") << "print(1)\n";
  struct Row {
    std::string program;
    Errc code;
    std::string what;
  };
  const std::vector<Row> rows = {
      {"no-such-program", Errc::no_program, "no program 'no-such-program' in PATH (/nowhere:" + directory.str() + ")"},
      {"/no/such/program", Errc::no_program, "no program '/no/such/program': No such file or directory"},
      {directory.str(), Errc::not_executable, "'" + directory.str() + "' is a directory, not a program"},
      {directory.str() + "/train.py", Errc::not_executable, "'" + directory.str() + "/train.py' is not executable"},
      {"train.py", Errc::not_executable, "'" + directory.str() + "/train.py' is not executable"},
  };
  for (const Row& row : rows) {
    Prepare prepare = AgentDriver::job({row.program});
    prepare.env = {{"PATH", "/nowhere:" + directory.str()}};
    const Failed failed = prepare_fails(prepare);
    CHECK(failed.code == static_cast<int>(row.code));
    CHECK(failed.rank == -1);
    CHECK(failed.what == row.what);
    CHECK_FALSE(failed.hint.empty());
  }
}

TEST_CASE("a working directory that cannot be entered is refused with path and reason") {
  TemporaryDirectory directory;
  std::ofstream(directory.str() + "/file") << "x";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"/no/such/directory", "working directory '/no/such/directory': No such file or directory"},
      {directory.str() + "/file", "working directory '" + directory.str() + "/file': not a directory"},
  };
  for (const auto& [path, what] : rows) {
    Prepare prepare = AgentDriver::job({"true"});
    prepare.workdir = path;
    const Failed failed = prepare_fails(prepare);
    CHECK(failed.code == static_cast<int>(Errc::no_workdir));
    CHECK(failed.what == what);
  }
}

TEST_CASE("an argument or environment that the kernel would not take is refused with its size") {
  Prepare prepare = AgentDriver::job({"true"});
  prepare.env = {{"BIG", std::string(200'000, 's')}};
  const Failed one = prepare_fails(prepare);
  CHECK(one.code == static_cast<int>(Errc::too_large));
  CHECK(one.what == "environment variable BIG has 200004 bytes with its name; the kernel takes 131071");
  prepare.env.clear();
  for (int i = 0; i < 70; ++i)
    prepare.env.emplace_back(std::string("V").append(std::to_string(i)), std::string(100'000, 's'));
  const Failed all = prepare_fails(prepare);
  CHECK(all.code == static_cast<int>(Errc::too_large));
  CHECK(all.what.find("environment variables (") != std::string::npos);
  CHECK(all.what.find("sss") == std::string::npos);
}

TEST_CASE("an exec that fails only at the start is a Failed of that rank, and the others run") {
  TemporaryDirectory directory;
  std::ofstream(directory.str() + "/job") << "#!/no/such/interpreter\n";
  REQUIRE(::chmod((directory.str() + "/job").c_str(), 0700) == 0);
  Prepare prepare = AgentDriver::job({"job"}, 2);
  std::ofstream(directory.str() + "/good") << "#!/bin/sh\necho fine\n";
  REQUIRE(::chmod((directory.str() + "/good").c_str(), 0700) == 0);
  REQUIRE(::mkdir((directory.str() + "/bin").c_str(), 0700) == 0);
  REQUIRE(::symlink("../good", (directory.str() + "/bin/job").c_str()) == 0);
  prepare.ranks[0].env.emplace_back("PATH", directory.str());
  prepare.ranks[1].env.emplace_back("PATH", directory.str() + "/bin:/bin:/usr/bin");
  AgentDriver agent(kProgram);
  agent.send(prepare);
  agent.expect<Ready>();
  agent.send(Go{});
  agent.run_to_done();
  REQUIRE(agent.failures.size() == 1);
  CHECK(agent.failures[0].rank == 0);
  CHECK(agent.failures[0].code == static_cast<int>(Errc::no_program));
  CHECK(agent.failures[0].what == "exec of '" + directory.str() + "/job': No such file or directory");
  CHECK(agent.ranks.count(0) == 0);
  CHECK(agent.ranks[1].out == "fine\n");
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("a line of 10 MB and bytes of every value arrive whole") {
  AgentDriver agent(kProgram);
  agent.start(
      AgentDriver::job(shell("head -c 10485760 /dev/zero | tr '\\0' x; i=0; while [ $i -lt 256 ]; do "
                             "printf \"\\\\$(printf %03o $i)\" >&2; i=$((i+1)); done")));
  agent.run_to_done();
  CHECK((agent.ranks[0].out == std::string(10'485'760, 'x')));
  std::string bytes;
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  CHECK(agent.ranks[0].err == bytes);
}

TEST_CASE("without an Ack the agent stops at its window, control goes on, and nothing is lost") {
  Prepare prepare = AgentDriver::job(shell("[ $RANK = 1 ] && exec sleep 1000; exec seq 1 200000"), 2);
  prepare.window_bytes = 10'000;
  AgentDriver agent(kProgram);
  agent.auto_ack = false;
  agent.start(prepare);
  while (agent.output_bytes < prepare.window_bytes) agent.step();
  // Rank 0 has 1.3 MB to say, of which its pipe holds 64 KiB: it cannot end. Rank 1's end comes at once all the same.
  agent.send(Signal{9});
  agent.run_until_exited(1);
  CHECK(agent.output_bytes == prepare.window_bytes);
  agent.run_until_exited(0);  // killed by the same signal
  CHECK(agent.ranks[0].exit.signaled);
  CHECK(agent.largest_ahead == prepare.window_bytes);
  agent.auto_ack = true;
  agent.send_ack();
  agent.run_to_done();
  std::string expected;
  for (int i = 1; i <= 200'000; ++i) expected += std::to_string(i) + "\n";
  CHECK(agent.ranks[0].out.size() > prepare.window_bytes);
  CHECK((agent.ranks[0].out == expected.substr(0, agent.ranks[0].out.size())));
}

TEST_CASE("a window that is opened piece by piece lets every line through, in order") {
  Prepare prepare = AgentDriver::job({"seq", "1", "200000"}, 2);
  prepare.window_bytes = 50'000;
  AgentDriver agent(kProgram);
  agent.start(prepare);
  agent.run_to_done();
  std::string expected;
  for (int i = 1; i <= 200'000; ++i) expected += std::to_string(i) + "\n";
  CHECK((agent.ranks[0].out == expected));
  CHECK((agent.ranks[1].out == expected));
  CHECK(agent.largest_ahead <= prepare.window_bytes);
}

TEST_CASE("a rank that closes its outputs is heard of at once and lives on") {
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job(shell("trap 'exit 4' USR1; exec 1>&- 2>&-; while :; do sleep 0.05; done")));
  while (!agent.ranks[0].out_ended || !agent.ranks[0].err_ended) agent.step();
  CHECK_FALSE(agent.ranks[0].exited);
  agent.send(Signal{10});
  agent.run_to_done();
  CHECK(agent.ranks[0].exit.value == 4);
  CHECK_FALSE(agent.ranks[0].exit.stopped);
}

TEST_CASE("a pushed program is taken once, checked, and run") {
  TemporaryDirectory cache;
  const std::string script = "#!/bin/sh\necho pushed \"$1\"\n";
  Prepare prepare = AgentDriver::job({"llmlaunch-file:tool", "a b"});
  prepare.files = {{"tool", "928286036287c92623b3549fbd48ca02ddd687bdb0b0c923566bc39bc828ee7c", script.size()}};
  const EnvList environment = {{"XDG_CACHE_HOME", cache.str()}};
  for (const bool first : {true, false}) {
    AgentDriver agent(kProgram, environment);
    agent.send(prepare);
    if (first) {
      CHECK(agent.expect<NeedFile>().index == 0);
      const ByteView bytes = as_bytes(script);
      agent.send(FileChunk{0, false, Bytes(bytes.begin(), bytes.begin() + 5)});
      agent.send(FileChunk{0, true, Bytes(bytes.begin() + 5, bytes.end())});
    }
    agent.expect<Ready>();
    agent.send(Go{});
    agent.run_to_done();
    CHECK(agent.ranks[0].out == "pushed a b\n");
    CHECK(agent.wait_for_end() == 0);
  }
  const std::string directory = cache.str() + "/llmlaunch/" + prepare.files[0].hash;
  struct stat info {};
  REQUIRE(::stat((directory + "/tool").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);

  // A file that was changed on the host is not run: it is asked for again.
  std::ofstream(directory + "/tool", std::ios::app) << "echo more\n";
  AgentDriver agent(kProgram, environment);
  agent.send(prepare);
  agent.expect<NeedFile>();
  const ByteView wrong = as_bytes(std::string_view("#!/bin/sh\necho pushed \"$2\"\n"));
  agent.send(FileChunk{0, true, Bytes(wrong.begin(), wrong.end())});
  const Failed failed = agent.expect<Failed>();
  CHECK(failed.code == static_cast<int>(Errc::protocol));
  CHECK(failed.what.starts_with("pushed file 'tool': the content that came has another SHA-256, "));
  agent.send(Stop{});
  agent.expect<Done>();
  CHECK(agent.wait_for_end() == 0);
  CHECK(std::distance(std::filesystem::directory_iterator(directory), {}) == 1);  // no half file is left
}

TEST_CASE("a pushed program alone gets the directories of the libraries that came with it, before the user's") {
  TemporaryDirectory cache;
  const std::string script = "#!/bin/sh\nprintf %s \"${LD_LIBRARY_PATH-unset}\"\n";
  const FileSpec tool{"tool", "32abe5b0f3c47b1597ab2144ba1459dea7d24872d5120071c81aa8e3628298e6", script.size()};
  const FileSpec one{"libone.so.1", "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", 3};
  const FileSpec two{"libtwo.so.2", "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3", 3};
  const std::vector<std::string> contents = {"one", script, "two"};
  const std::string top = cache.str() + "/llmlaunch/";
  const std::string pushed = top + one.hash + ":" + top + two.hash;
  struct Row {
    std::string program;
    EnvList inherited, of_job, of_rank;
    std::string wanted;
  };
  const std::vector<Row> rows = {
      {"llmlaunch-file:tool", {}, {}, {}, pushed},
      {"llmlaunch-file:tool", {{"LD_LIBRARY_PATH", "/host"}}, {}, {}, pushed + ":/host"},
      {"llmlaunch-file:tool", {{"LD_LIBRARY_PATH", "/host"}}, {{"LD_LIBRARY_PATH", "/job"}}, {}, pushed + ":/job"},
      {"llmlaunch-file:tool", {}, {{"LD_LIBRARY_PATH", "/job"}}, {{"LD_LIBRARY_PATH", "/r:/s"}}, pushed + ":/r:/s"},
      {top + tool.hash + "/tool", {}, {{"LD_LIBRARY_PATH", "/job"}}, {}, "/job"},
      {top + tool.hash + "/tool", {}, {{"LD_LIBRARY_PATH", ""}}, {}, ""},
  };
  for (const Row& row : rows) {
    INFO(row.program << ' ' << row.wanted);
    EnvList environment = row.inherited;
    environment.emplace_back("XDG_CACHE_HOME", cache.str());
    AgentDriver agent(kProgram, environment);
    Prepare prepare = AgentDriver::job({row.program});
    prepare.env.insert(prepare.env.end(), row.of_job.begin(), row.of_job.end());
    prepare.ranks[0].env.insert(prepare.ranks[0].env.end(), row.of_rank.begin(), row.of_rank.end());
    prepare.files = {one, tool, two};
    agent.send(prepare);
    AgentMessage answer = agent.next();
    while (const auto* need = std::get_if<NeedFile>(&answer)) {
      const ByteView bytes = as_bytes(contents[need->index]);
      agent.send(FileChunk{need->index, true, Bytes(bytes.begin(), bytes.end())});
      answer = agent.next();
    }
    REQUIRE(std::holds_alternative<Ready>(answer));
    agent.send(Go{});
    agent.run_to_done();
    CHECK(agent.ranks[0].out == row.wanted);
    CHECK(agent.wait_for_end() == 0);
  }
}

TEST_CASE("a cache whose path the loader would split is refused before any rank starts") {
  TemporaryDirectory top;
  const std::string cache = top.str() + "/a:b";
  Prepare prepare = AgentDriver::job({"llmlaunch-file:tool"});
  prepare.files = {{"tool", std::string(64, 'a'), 1}, {"libone.so.1", std::string(64, 'b'), 1}};
  AgentDriver agent(kProgram, {{"XDG_CACHE_HOME", cache}});
  agent.send(prepare);
  const Failed failed = agent.expect<Failed>();
  CHECK(failed.what == "the loader cannot look for pushed libraries in '" + cache + "/llmlaunch/" +
                           std::string(64, 'b') + "': it splits names at ':' and ';'");
  agent.send(Stop{});
  agent.expect<Done>();
  CHECK(agent.wait_for_end() == 0);
}

TEST_CASE("the agent is small: at most 2 MB as a file and 6 MB resident") {
#ifdef LLMLAUNCH_SANITIZED
  WARN("not checked: a sanitizer's runtime is many times the agent's own size and cannot be linked statically");
#else
  struct stat info {};
  REQUIRE(::stat(kProgram.c_str(), &info) == 0);
  CHECK(info.st_size <= 2'000'000);
  AgentDriver agent(kProgram);
  agent.start(AgentDriver::job(shell("seq 1 100000; sleep 1000"), 4));
  for (std::uint32_t rank = 0; rank < 4; ++rank) agent.run_until_said(rank, "\n100000\n");
  const std::int64_t bytes = resident_bytes(agent.hello.pid) + resident_bytes(agent.pid);
  INFO("resident: " << bytes);
  CHECK(bytes > 0);
  CHECK(bytes <= 6'000'000);
#endif
}

}  // namespace agent_test
