// exec with hosts in memory: gathered output, its groups and its JSON, lines as they come, and what is left on disk.
#include "launcher/exec.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/catch.hpp"
#include "tests/support/fake_job.hpp"

namespace launcher_exec_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::content_of;
using llmlaunch::testing::FakeJob;
using llmlaunch::testing::FakeRemoteShell;
namespace fs = std::filesystem;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

struct Bench : FakeJob {
  explicit Bench(std::size_t hosts) : FakeJob(hosts, 1), gathered(hosts, fs::temp_directory_path().string()) {
    plan.argv = {"nvidia-smi", "-L"};
    plan.policy = StartPolicy::each_host;
    for (HostPlan& host : plan.hosts) host.env = {{"LLMLAUNCH_HOST", host.name}};
    options.gather = &gathered;
  }
  void says(std::size_t host, std::string out, std::string err, int status) {
    agents[host]->on_go = [=](FakeRemoteShell& shell) {
      const auto rank = static_cast<std::uint32_t>(host);
      if (!out.empty()) shell.output(rank, kOut, out);
      if (!err.empty()) shell.output(rank, kErr, err);
      shell.exit(rank, status);
    };
  }
  std::string groups(const JobResult& result) const {
    std::string text;
    const auto to = [&text](const char* mark) {
      return [&text, mark](std::string_view piece) -> Result<void> {
        text += mark + std::string(piece);
        return ok;
      };
    };
    REQUIRE(write_groups(result.hosts, gathered, to(""), to("")));
    return text;
  }
  nlohmann::json json(const JobResult& result) const {
    std::string text;
    REQUIRE(write_json(plan, result, gathered, [&text](std::string_view piece) -> Result<void> {
      text += piece;
      return ok;
    }));
    return nlohmann::json::parse(text);
  }

  GatheredOutput gathered;
};

Result<void> add(GatheredOutput& gathered, std::uint32_t rank, agent::Stream stream, std::string_view text) {
  return gathered.add(Rank{rank}, stream, as_bytes(text));
}

std::string all_of(const GatheredOutput& gathered, std::uint32_t rank, agent::Stream stream) {
  std::string text;
  REQUIRE(gathered.read(Rank{rank}, stream, [&text](std::string_view piece) -> Result<void> {
    text += piece;
    return ok;
  }));
  return text;
}

}  // namespace

TEST_CASE("hosts that said the same are shown once, in the order of the hosts") {
  Bench bench(4);
  bench.says(0, "GPU 0\nGPU 1\n", "", 0);
  bench.says(1, "GPU 0\n", "slow\n", 0);
  bench.says(2, "GPU 0\nGPU 1\n", "", 3);
  bench.says(3, "", "slow\n", 0);
  const JobResult result = bench.run();
  CHECK(bench.groups(result) ==
        "----------------\ngpu[01,03] (2)\n----------------\nGPU 0\nGPU 1\n"
        "----------------\ngpu02 (1)\n----------------\nGPU 0\n"
        "----------------\ngpu[02,04] (2) stderr\n----------------\nslow\n");
  CHECK(result.exit_status == 3);
  CHECK(to_string(*result.failure) == "1 of 4 hosts failed\n   exit 3: gpu03");
  CHECK(result.run_directory.empty());
  CHECK(bench.out().empty());
  CHECK(bench.err().empty());
  CHECK(std::distance(fs::directory_iterator(bench.top.path), fs::directory_iterator()) == 2);  // out and err: no logs
}

TEST_CASE("a group's last line gets its newline") {
  Bench bench(1);
  bench.says(0, "no newline", "", 0);
  CHECK(bench.groups(bench.run()) == "----------------\ngpu01 (1)\n----------------\nno newline\n");
}

TEST_CASE("a host's command finds no world and no rendezvous") {
  Bench bench(2);
  bench.says(0, "", "", 0);
  bench.says(1, "", "", 0);
  CHECK(bench.run().exit_status == 0);
  for (const auto& agent : bench.agents) {
    const EnvList& env = agent->prepare->env;
    REQUIRE(env.size() == 1);
    CHECK(env[0].first == "LLMLAUNCH_HOST");
    CHECK(agent->prepare->ranks.at(0).env.empty());
    CHECK(agent->go->env.empty());
  }
}

TEST_CASE("lines come as pdsh writes them when nothing is gathered") {
  Bench bench(2);
  bench.options.gather = nullptr;
  bench.says(0, "one\ntwo", "warned\n", 0);
  bench.says(1, "three\n", "", 0);
  CHECK(bench.run().exit_status == 0);
  std::string out = bench.out();
  CHECK(out.find("gpu01: one\n") != out.npos);
  CHECK(out.find("gpu01: two\n") != out.npos);
  CHECK(out.find("gpu02: three\n") != out.npos);
  CHECK(out.size() == std::string("gpu01: one\ngpu01: two\ngpu02: three\n").size());
  CHECK(bench.err() == "gpu01: warned\n");
}

TEST_CASE("a log directory that is asked for has a file for each stream of each host") {
  Bench bench(2);
  bench.plan.log_dir = (bench.top.path / "logs").string();
  bench.says(0, "one\n", "warned\n", 0);
  bench.says(1, "two\n", "", 5);
  const JobResult result = bench.run();
  const fs::path directory = bench.top.path / "logs" / "job-1";
  CHECK(result.run_directory == directory);
  CHECK(content_of(directory / "gpu01.out") == "one\n");
  CHECK(content_of(directory / "gpu01.err") == "warned\n");
  CHECK(content_of(directory / "gpu02.out") == "two\n");
  CHECK(content_of(directory / "merged.log").find("gpu02: two\n") != std::string::npos);
  CHECK(nlohmann::json::parse(content_of(directory / "job.json"))["exit_status"] == 5);
  CHECK(bench.out().empty());  // it was gathered as well
  CHECK(bench.groups(result).find("gpu01 (1)") != std::string::npos);
}

TEST_CASE("one JSON object tells of every host") {
  Bench bench(3);
  bench.says(0, "caf\xc3\xa9 \"quoted\"\n", "", 0);
  bench.says(1, std::string("\xff\x00\x01", 3), "text\n", 9);
  bench.agents[2]->open_error = make_error(Errc::refused, "connection refused", "host gpu03", "start sshd");
  bench.agents[2]->open_step = OpenStep::authenticating;
  const JobResult result = bench.run();
  const nlohmann::json json = bench.json(result);
  CHECK(json["job_id"] == "job-1");
  CHECK(json["argv"] == std::vector<std::string>{"nvidia-smi", "-L"});
  CHECK(json["exit_status"] == 69);
  REQUIRE(json["hosts"].size() == 3);
  CHECK(json["hosts"][0]["host"] == "gpu01");
  CHECK(json["hosts"][0]["status"] == 0);
  CHECK(json["hosts"][0]["stdout"] == "caf\xc3\xa9 \"quoted\"\n");
  CHECK(json["hosts"][0]["stderr"] == "");
  CHECK(json["hosts"][1]["stdout_base64"] == "/wAB");
  CHECK_FALSE(json["hosts"][1].contains("stdout"));
  CHECK(json["hosts"][1]["stderr"] == "text\n");
  CHECK(json["hosts"][1]["end"] == "exited");
  CHECK(json["hosts"][1]["status"] == 9);
  CHECK(json["hosts"][2]["end"] == "failed");
  CHECK(json["hosts"][2]["status"] == 69);
  CHECK(json["hosts"][2]["reason"] == "host gpu03: connection refused\n   hint: start sshd");
}

TEST_CASE("text longer than a piece is the same text in JSON, wherever a character is cut") {
  for (std::size_t shift = 0; shift < 4; ++shift) {
    Bench bench(2);
    std::string text(shift, 'x');
    while (text.size() < 200'000) text += "\xf0\x9f\x98\x80\xc3\xa9";
    bench.says(0, "", "", 0);
    bench.says(1, "", "", 0);
    const JobResult result = bench.run();
    REQUIRE(add(bench.gathered, 0, kOut, text));
    REQUIRE(add(bench.gathered, 1, kOut, text + "\xff"));
    const nlohmann::json json = bench.json(result);
    CHECK(json["hosts"][0]["stdout"] == text);
    const std::string encoded = json["hosts"][1]["stdout_base64"];
    CHECK(encoded.size() == 4 * ((text.size() + 1 + 2) / 3));
  }
}

TEST_CASE("more output than memory goes to a file without a name, and comes back as it was") {
  const llmlaunch::test::TemporaryDirectory directory;
  {
    GatheredOutput gathered(3, directory.str(), 1000);
    std::string first, second;
    for (int i = 0; i < 2000; ++i) {
      const std::string piece = "line " + std::to_string(i) + "\n";
      REQUIRE(add(gathered, 0, kOut, piece));
      REQUIRE(add(gathered, 1, kErr, piece + "x"));
      first += piece;
      second += piece + "x";
    }
    CHECK(all_of(gathered, 0, kOut) == first);
    CHECK(all_of(gathered, 1, kErr) == second);
    CHECK(gathered.size(Rank{0}, kOut) == first.size());
    CHECK(all_of(gathered, 2, kOut).empty());
    REQUIRE(add(gathered, 2, kOut, first));
    CHECK(*gathered.digest(Rank{2}, kOut) == *gathered.digest(Rank{0}, kOut));
    CHECK(*gathered.digest(Rank{1}, kErr) != *gathered.digest(Rank{0}, kOut));
    CHECK(fs::is_empty(directory.path));
  }
}

TEST_CASE("output that cannot be kept is said once, and the status tells") {
  Bench bench(2);
  GatheredOutput nowhere(2, "/nonexistent/place", 10);
  bench.options.gather = &nowhere;
  bench.says(0, "more than ten bytes\n", "", 0);
  bench.says(1, "more than ten bytes\n", "", 0);
  const JobResult result = bench.run();
  CHECK(nowhere.incomplete());
  CHECK(result.exit_status == 74);
  CHECK(to_string(*result.failure) == "all commands ended well, but their output could not be kept");
  const std::string err = bench.err();
  CHECK(err.find("cannot make a temporary file in /nonexistent/place: No such file or directory") != err.npos);
  CHECK(err.find("INCOMPLETE") == err.rfind("INCOMPLETE"));
}

}  // namespace launcher_exec_test
