// run_job against hosts in memory: what goes to them and in which order, what comes back to the terminal, the run
// directory and the result. Everything is driven by messages.
#include "launcher/launch.hpp"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

#include "launcher/job_state.hpp"
#include "launcher/pushed_libraries.hpp"
#include "rendezvous/message.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_job.hpp"

namespace launcher_launch_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::content_of;
using llmlaunch::testing::FakeAgent;
using llmlaunch::testing::FakeJob;
using llmlaunch::testing::FakeRemoteShell;
namespace fs = std::filesystem;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

struct Bench : FakeJob {
  Bench(std::size_t hosts, std::uint32_t ranks_each) : FakeJob(hosts, ranks_each) {
    plan.argv = {"python", "train.py"};
    plan.log_dir = (top.path / "logs").string();
  }
  fs::path directory() const { return top.path / "logs" / "job-1"; }
};

void exit_all(FakeRemoteShell& host) {
  for (const std::uint32_t rank : std::vector(host.agent().running)) host.exit(rank, 0);
}

std::string value_of(const EnvList& env, const std::string& name) {
  std::string found = "(unset)";
  for (const auto& [key, value] : env)
    if (key == name) found = value;
  return found;
}

}  // namespace

TEST_CASE("a good job prints every rank's lines, writes its record and ends with 0") {
  Bench bench(2, 2);
  bench.agents[1]->noise = {"Welcome to gpu02"};
  for (auto& agent : bench.agents) {
    agent->on_go = [](FakeRemoteShell& host) {
      for (const std::uint32_t rank : std::vector(host.agent().running)) {
        host.output(rank, kOut, "hello from " + std::to_string(rank) + "\nunfin");
        host.output(rank, kErr, "warned\n");
        host.output(rank, kOut, "ished");
      }
      exit_all(host);
    };
  }
  const JobResult result = bench.run();
  CHECK(result.exit_status == 0);
  CHECK_FALSE(result.failure);
  CHECK(result.run_directory == bench.directory());
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    const std::string prefix = "[rank " + std::to_string(rank) + (rank < 2 ? " gpu01] " : " gpu02] ");
    CHECK(bench.out().find(prefix + "hello from " + std::to_string(rank) + "\n") != std::string::npos);
    CHECK(bench.out().find(prefix + "unfinished\n") != std::string::npos);
    CHECK(bench.err().find(prefix + "warned\n") != std::string::npos);
    CHECK(result.ranks[rank].kind == RankEnd::Kind::exited);
    CHECK(result.ranks[rank].pid == 1000 + rank);
  }
  CHECK(std::regex_search(bench.err(), std::regex("llmlaunch: 2 hosts, 4 ranks; rendezvous port [0-9]+; logs in " +
                                                  bench.directory().string() + "\n")));
  CHECK(bench.err().find("llmlaunch: gpu02 said: Welcome to gpu02\n") != std::string::npos);
  CHECK(std::regex_search(bench.err(), std::regex("llmlaunch: 4 ranks ended well after [0-9.]+ s\n")));
  CHECK(content_of(bench.directory() / "rank-00003.out") == "hello from 3\nunfinished");
  CHECK(nlohmann::json::parse(content_of(bench.directory() / "job.json"))["exit_status"] == 0);
  for (const auto& agent : bench.agents) CHECK(agent->closed);
}

TEST_CASE("quiet says nothing unless something fails") {
  Bench bench(1, 1);
  bench.options.quiet = true;
  bench.agents[0]->noise = {"Welcome"};
  bench.agents[0]->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  CHECK(bench.err().empty());
}

TEST_CASE("what the console shows of the lines changes nothing in the files") {
  Bench bench(2, 2);
  bench.plan.logs.ranks = {{1, 1}, {3, 3}};
  bench.plan.logs.prefix = "{rank}@{host} ";
  bench.plan.logs.fold_lines = true;
  bench.options.stderr_colors = true;
  for (auto& agent : bench.agents) {
    agent->on_go = [](FakeRemoteShell& host) {
      for (const std::uint32_t rank : std::vector(host.agent().running)) {
        host.output(rank, kOut, "same\n");
        host.output(rank, kErr, "\r50%\r" + std::to_string(rank) + "00%\n");
      }
      exit_all(host);
    };
  }
  CHECK(bench.run().exit_status == 0);
  CHECK(bench.out() == "[1,3] ×2 same\n");
  CHECK(bench.err().find("\x1b[36m1@gpu01 \x1b[0m\x1b[1;31m!\x1b[0m 100%\n") != std::string::npos);
  CHECK(bench.err().find("\x1b[32m3@gpu02 \x1b[0m\x1b[1;31m!\x1b[0m 300%\n") != std::string::npos);
  CHECK(bench.err().find("@gpu01 \x1b[0m\x1b[1;31m!\x1b[0m 000%") == std::string::npos);
  CHECK(content_of(bench.directory() / "rank-00000.err") == "\r50%\r000%\n");
  const std::string merged = content_of(bench.directory() / "merged.log");
  for (const char* line : {"0@gpu01 same\n", "3@gpu02 same\n", "2@gpu02 \r50%\r200%\n"})
    CHECK(merged.find(line) != std::string::npos);
  bench.plan.job_id = "job-2";
  bench.plan.logs.prefix = "none";
  CHECK(bench.run().exit_status == 0);
  CHECK(content_of(bench.top.path / "logs" / "job-2" / "merged.log").find("[rank 0 gpu01] same\n") !=
        std::string::npos);
}

TEST_CASE("the timeline of a job is written, and a place that cannot be written is refused before it") {
  Bench bench(2, 1);
  bench.agents[0]->on_go = [](FakeRemoteShell& host) {
    host.output(0, kOut, "x\n");
    exit_all(host);
  };
  bench.agents[1]->on_go = exit_all;
  bench.options.timeline = (bench.top.path / "t.txt").string();
  CHECK(bench.run().exit_status == 0);
  const auto trace = nlohmann::json::parse(content_of(bench.top.path / "t.json"));
  std::vector<std::string> names[2];
  for (const auto& event : trace["traceEvents"])
    if (event["ph"] == "X") names[event["tid"].get<std::size_t>() - 1].push_back(event["name"]);
  CHECK(names[0] == std::vector<std::string>{"wait", "TCP", "agent hello", "ready", "go", "first line", "end"});
  CHECK(names[1] == std::vector<std::string>{"wait", "TCP", "agent hello", "ready", "go", "end"});
  CHECK(content_of(bench.top.path / "t.txt").find("job job-1: ") == 0);
  bench.plan.job_id = "job-2";
  bench.options.timeline = "/proc/no/t.txt";
  const auto refused = run_job(bench.plan, bench.options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("--timeline: cannot create /proc/no/t.json.new: ") == 0);
  const std::string pipe = (bench.top.path / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  bench.options.timeline = pipe;
  const auto replaced = run_job(bench.plan, bench.options);
  REQUIRE_FALSE(replaced);
  CHECK(replaced.error().what == "--timeline: is a pipe and not a file");
  CHECK(std::filesystem::is_fifo(pipe));
  CHECK(bench.agents[0]->opened == 0);
}

TEST_CASE("hosts get the rendezvous, the token and the master's address, and no log shows the token") {
  Bench bench(2, 1);
  bench.plan.hosts[0].env = {{"COLOR", "deep blue"}};
  bench.plan.timeouts.grace = std::chrono::milliseconds(1234);
  for (auto& agent : bench.agents) agent->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  const agent::Prepare& prepare = *bench.agents[0]->prepare;
  CHECK(prepare.argv == bench.plan.argv);
  CHECK(prepare.host == "gpu01");
  CHECK(prepare.grace_ms == 1234);
  CHECK(value_of(prepare.env, "COLOR") == "deep blue");
  const std::string token = value_of(prepare.env, "LLMLAUNCH_TOKEN");
  CHECK(std::regex_match(token, std::regex("[0-9a-f]{64}")));
  CHECK(value_of(bench.agents[1]->prepare->env, "LLMLAUNCH_TOKEN") == token);
  for (const auto& agent : bench.agents) {
    const EnvList& env = agent->go->env;
    const std::string rendezvous = value_of(env, "LLMLAUNCH_RENDEZVOUS");
    CHECK(std::regex_match(rendezvous, std::regex("192\\.0\\.2\\.254:[0-9]+")));
    CHECK(value_of(env, "MASTER_ADDR") + ":" + value_of(env, "MASTER_PORT") == rendezvous);
  }
  for (const auto& file : fs::recursive_directory_iterator(bench.top.path)) {
    if (!file.is_regular_file()) continue;
    CHECK(content_of(file.path()).find(token) == std::string::npos);
    CHECK(content_of(file.path()).find("deep blue") == std::string::npos);
  }
}

TEST_CASE("a store that rank 0 makes is on rank 0's host, at a port that was free there") {
  Bench bench(2, 1);
  bench.plan.use_agent_store = false;
  for (auto& agent : bench.agents) agent->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  for (const auto& agent : bench.agents) {
    CHECK(value_of(agent->go->env, "MASTER_ADDR") == "192.0.2.1");
    CHECK(value_of(agent->go->env, "MASTER_PORT") == "45000");
  }
}

TEST_CASE("rank 0 on the head is reached by each host where that host sees the head") {
  for (const bool agent_store : {true, false}) {
    Bench bench(2, 1);
    bench.plan.use_agent_store = agent_store;
    bench.plan.hosts[0].local = true;
    for (auto& agent : bench.agents) agent->on_go = exit_all;
    CHECK(bench.run().exit_status == 0);
    for (const auto& agent : bench.agents) CHECK(value_of(agent->go->env, "MASTER_ADDR") == "192.0.2.254");
  }
}

TEST_CASE("a given main_process_ip is what ranks are told") {
  Bench bench(2, 1);
  bench.plan.rendezvous_address = "fd00::7";
  for (auto& agent : bench.agents) agent->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  CHECK(value_of(bench.agents[1]->go->env, "LLMLAUNCH_RENDEZVOUS").find("[fd00::7]:") == 0);
  CHECK(value_of(bench.agents[1]->go->env, "MASTER_ADDR") == "fd00::7");
  CHECK(bench.agents[1]->prepare->ways.addresses == std::vector<std::string>{"fd00::7"});
}

TEST_CASE("each host's ranks are told the address that it reached, and what it never was told loses it") {
  Bench bench(2, 1);
  bench.plan.rendezvous_address = "";
  std::string second;
  for (std::size_t host = 0; host < 2; ++host) {
    bench.agents[host]->on_go = exit_all;
    bench.agents[host]->on_prepare = [&second, host](FakeRemoteShell& shell, const agent::Prepare& prepare) {
      agent::Ready ready{45'000};
      ready.reach.way = host == 0 ? 0 : static_cast<std::uint32_t>(prepare.ways.addresses.size() - 1);
      ready.reach.interface = host == 0 ? "eth0" : "ens5";
      if (host == 1) second = prepare.ways.addresses.back();
      shell.say(ready);
    };
  }
  CHECK(bench.run().exit_status == 0);
  CHECK(value_of(bench.agents[0]->go->env, "MASTER_ADDR") == "192.0.2.254");
  CHECK(value_of(bench.agents[1]->go->env, "MASTER_ADDR") == second);
  CHECK(value_of(bench.agents[0]->go->defaults, "NCCL_SOCKET_IFNAME") == "=eth0");
  CHECK(value_of(bench.agents[1]->go->defaults, "GLOO_SOCKET_IFNAME") == "ens5");

  Bench liar(1, 1);
  liar.agents[0]->on_prepare = [](FakeRemoteShell& shell, const agent::Prepare& prepare) {
    agent::Ready ready{45'000};
    ready.reach.way = static_cast<std::uint32_t>(prepare.ways.addresses.size());
    shell.say(ready);
  };
  const JobResult result = liar.run();
  CHECK(result.exit_status == 69);
  CHECK(result.failure->what.find("an address that it was not told") != std::string::npos);
}

TEST_CASE("what a host carries comes to the rendezvous, and its answer and both ends come back") {
  Bench bench(1, 1);
  bench.plan.rendezvous_via = RendezvousWay::ssh;
  Bytes greeting = rendezvous::encode(rendezvous::Preamble{});
  const Bytes hello = rendezvous::encode(rendezvous::Hello{});
  greeting.insert(greeting.end(), hello.begin(), hello.end());
  Bytes answer;
  bool ended = false;
  bench.agents[0]->on_prepare = [](FakeRemoteShell& shell, const agent::Prepare& prepare) {
    CHECK(prepare.ways.carry);
    agent::Ready ready{45'000};
    ready.reach.carried_port = 41'000;
    shell.say(ready);
  };
  bench.agents[0]->on_go = [&greeting](FakeRemoteShell& shell) {
    shell.say(agent::CarriedOpen{0});
    shell.say(agent::CarriedData{0, greeting});
  };
  bench.agents[0]->on_carried = [&](FakeRemoteShell& shell, const agent::HeadMessage& message) {
    if (const auto* data = std::get_if<agent::CarriedData>(&message)) {
      answer.insert(answer.end(), data->data.begin(), data->data.end());
      shell.say(agent::CarriedEnd{0});
    } else if (std::holds_alternative<agent::CarriedEnd>(message)) {
      ended = true;
      exit_all(shell);
    }
  };
  CHECK(bench.run().exit_status == 0);
  CHECK(value_of(bench.agents[0]->go->env, "LLMLAUNCH_RENDEZVOUS") == "127.0.0.1:41000");
  const Bytes challenge = rendezvous::encode(rendezvous::Challenge{});
  REQUIRE(answer.size() == challenge.size());
  CHECK(std::equal(answer.begin(), answer.begin() + kFrameHeaderBytes, challenge.begin()));
  CHECK(ended);
}

TEST_CASE("a host that sends more than a carried connection's window holds is lost") {
  Bench bench(1, 1);
  bench.plan.rendezvous_via = RendezvousWay::ssh;
  bench.agents[0]->on_prepare = [](FakeRemoteShell& shell, const agent::Prepare&) {
    agent::Ready ready{45'000};
    ready.reach.carried_port = 41'000;
    shell.say(ready);
  };
  bench.agents[0]->on_go = [](FakeRemoteShell& shell) {
    shell.say(agent::CarriedOpen{0});
    for (int i = 0; i < 5; ++i) shell.say(agent::CarriedData{0, Bytes(agent::kCarriedChunkBytes)});
  };
  const JobResult result = bench.run();
  CHECK(result.exit_status == 69);
  CHECK(result.failure->what.find("more bytes than a connection's window holds") != std::string::npos);
}

TEST_CASE("Go is sent only when the last host is ready") {
  Bench bench(3, 1);
  std::shared_ptr<FakeRemoteShell> waiting;
  int ready = 0;
  for (auto& agent : bench.agents) {
    agent->on_prepare = [&](FakeRemoteShell& host, const agent::Prepare&) {
      for (const auto& other : bench.agents) CHECK_FALSE(other->go);
      ++ready;
      host.say(agent::Ready{1});
    };
    agent->on_go = [&](FakeRemoteShell& host) {
      CHECK(ready == 3);
      exit_all(host);
    };
  }
  CHECK(bench.run().exit_status == 0);
}

TEST_CASE("one host that cannot be opened rolls the others back without a start") {
  Bench bench(3, 1);
  bench.agents[1]->open_error = make_error(Errc::refused, "connection to 192.0.2.2:22 refused", "host gpu02");
  const JobResult result = bench.run();
  CHECK(result.exit_status == 69);
  REQUIRE(result.failure);
  CHECK(result.failure->where == "host gpu02 (node_rank 1, rank 1)");
  for (const std::size_t host : {0u, 2u}) {
    CHECK_FALSE(bench.agents[host]->go);
    CHECK(bench.agents[host]->stops.size() == 1);
    CHECK(bench.agents[host]->closed);
  }
  CHECK(nlohmann::json::parse(content_of(bench.directory() / "job.json"))["exit_status"] == 69);
}

TEST_CASE("a connection that sshd dropped is made again") {
  Bench bench(1, 1);
  bench.agents[0]->open_error = make_error(Errc::closed, "connection closed");
  bench.agents[0]->open_failures = 2;
  bench.agents[0]->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  CHECK(bench.agents[0]->opened == 3);
}

TEST_CASE("the first failing rank gives the status and all others are stopped") {
  Bench bench(2, 2);
  bench.agents[1]->on_go = [](FakeRemoteShell& host) {
    host.output(3, kErr, "no such file\n");
    host.exit(3, 3);
  };
  const JobResult result = bench.run();
  CHECK(result.exit_status == 3);
  REQUIRE(result.failure);
  CHECK(result.failure->what ==
        "rank 3 (gpu02, pid 1003) exited with status 3\n"
        "   its last line on stderr:\n"
        "     | no such file\n"
        "   all of it: " +
            result.run_directory +
            "/rank-00003.out, .err\n"
            "   3 ranks stopped by llmlaunch");
  for (const auto& agent : bench.agents) REQUIRE(agent->stops.size() == 1);
  CHECK(result.ranks[0].kind == RankEnd::Kind::stopped);
}

TEST_CASE("a host whose stream ends and whose agent is gone is lost") {
  Bench bench(2, 1);
  bench.agents[1]->on_go = [](FakeRemoteShell& host) {
    host.output(1, kOut, "half a li");
    host.hang_up();
  };
  const JobResult result = bench.run();
  CHECK(result.exit_status == 69);
  CHECK(
      result.failure->what.find("host gpu02 (node_rank 1, rank 1): connection lost: the connection to its agent ended; "
                                "connected again: the agent is gone") == 0);
  CHECK(result.ranks[1].kind == RankEnd::Kind::lost);
  CHECK(bench.out() == "[rank 1 gpu02] half a li\n");
  CHECK(bench.agents[0]->stops.size() == 1);
}

TEST_CASE("a host that says nothing more is lost at the deadline") {
  Bench bench(1, 1);
  bench.plan.timeouts.head = std::chrono::milliseconds(300);
  bench.agents[0]->on_go = [](FakeRemoteShell&) {};
  bench.agents[0]->on_resume = [](FakeRemoteShell&, const agent::Resume&) {};
  const JobResult result = bench.run();
  CHECK(result.exit_status == 69);
  CHECK(result.failure->code == Errc::timed_out);
}

TEST_CASE("a head that comes back gets what it has not, sends what was not heard, and says goodbye") {
  Bench bench(1, 1);
  FakeAgent& agent = *bench.agents[0];
  agent.on_go = [](FakeRemoteShell& host) {
    host.output(0, kOut, "before\n");
    host.hang_up();
    std::raise(SIGTERM);  // an order that this connection does not carry any more
  };
  agent.on_resume = [](FakeRemoteShell& host, const agent::Resume& resume) {
    CHECK(resume.name == host.agent().prepare->resume_name);
    CHECK(resume.key == host.agent().prepare->resume_key);
    CHECK(resume.state.outputs == 1);
    CHECK(resume.state.events == 1);
    host.say(agent::Resumed{1});
    host.output(0, kOut, "after\n");
  };
  const JobResult result = bench.run();
  CHECK(result.exit_status == 143);
  CHECK(bench.out() == "[rank 0 gpu01] before\n[rank 0 gpu01] after\n");
  CHECK(agent.stops.size() == 1);
  CHECK(bench.err().find("connected again after") != std::string::npos);
}

TEST_CASE("bytes that are no message cost the host and end the job") {
  Bench bench(2, 1);
  bench.agents[0]->on_go = [](FakeRemoteShell& host) { host.say_bytes(as_bytes("Segmentation fault\n")); };
  const JobResult result = bench.run();
  CHECK(result.exit_status == 69);
  CHECK(result.failure->what.find("host gpu01") == 0);
}

TEST_CASE("Ctrl-C stops with the grace, and a second one without") {
  Bench bench(2, 1);
  int started = 0;
  for (auto& agent : bench.agents) {
    agent->on_go = [&](FakeRemoteShell&) {
      if (++started == 2) std::raise(SIGINT);
    };
    agent->on_stop = [&](FakeRemoteShell& host, const agent::Stop& stop) {
      if (stop.grace_ms == 0) return host.exit(host.agent().running.front(), SIGKILL, true, true);
      bool all_told = true;
      for (const auto& other : bench.agents) all_told = all_told && !other->stops.empty();
      if (!all_told) return;
      std::this_thread::sleep_for(kOneStop);  // no one presses faster
      std::raise(SIGINT);                     // the ranks do not care about the first one
    };
  }
  const JobResult result = bench.run();
  CHECK(result.exit_status == 130);
  CHECK(result.failure->what == "interrupted by SIGINT\n   2 ranks stopped by llmlaunch");
  for (const auto& agent : bench.agents) {
    REQUIRE(agent->stops.size() == 2);
    CHECK(agent->stops[0].grace_ms == 10'000);
    CHECK(agent->stops[0].signal == SIGTERM);
    CHECK(agent->stops[1].grace_ms == 0);
  }
  CHECK(bench.err().find("llmlaunch: warning: caught SIGINT: stopping 2 ranks") != std::string::npos);
}

TEST_CASE("the time limit of the job ends it with 124") {
  Bench bench(1, 1);
  bench.plan.timeouts.run = std::chrono::milliseconds(200);
  CHECK(bench.run().exit_status == 124);
  CHECK(bench.agents[0]->stops.size() == 1);
}

TEST_CASE("credit comes back for every byte, and more than the window passes") {
  Bench bench(1, 1);
  const std::string lines(1000, 'x');
  std::uint64_t sent = 0;
  constexpr std::uint64_t kTotal = 3 << 20;
  const auto send_what_fits = [&](FakeRemoteShell& host, std::uint64_t acked) {
    while (sent < kTotal && sent + lines.size() <= acked + host.agent().prepare->window_bytes) {
      host.output(0, kOut, lines.substr(1) + "\n");
      sent += lines.size();
    }
    if (sent >= kTotal && acked == sent) host.exit(0, 0);
  };
  bench.agents[0]->on_go = [&](FakeRemoteShell& host) { send_what_fits(host, 0); };
  bench.agents[0]->on_ack = send_what_fits;
  CHECK(bench.run().exit_status == 0);
  CHECK(bench.agents[0]->acked == sent);
  CHECK(fs::file_size(bench.directory() / "rank-00000.out") == sent);
}

TEST_CASE("exits are heard and stops are sent while the terminal takes nothing") {
  Bench bench(2, 1);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  bench.options.stdout_fd = ends[1];
  std::thread reader;
  std::string shown;
  bench.agents[0]->on_go = [](FakeRemoteShell& host) {
    for (int i = 0; i < 4; ++i)
      host.output(0, kOut, std::string(60'000, '\n'));  // with prefixes far more than the pipe
  };
  bench.agents[1]->on_go = [](FakeRemoteShell& host) { host.exit(1, 3); };
  bench.agents[0]->on_stop = [&](FakeRemoteShell& host, const agent::Stop&) {
    CHECK(host.agent().acked == 0);
    reader = std::thread([&] {  // now somebody looks at the terminal again
      std::string piece(1 << 16, '\0');
      for (ssize_t got; (got = ::read(ends[0], piece.data(), piece.size())) > 0;)
        shown.append(piece, 0, static_cast<std::size_t>(got));
    });
    host.exit(0, SIGTERM, true, true);
  };
  CHECK(bench.run().exit_status == 3);
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  CHECK(std::count(shown.begin(), shown.end(), '\n') == 240'000);
}

TEST_CASE("a pushed program goes to the host that lacks it, whole and under its hash") {
  Bench bench(2, 1);
  std::string program(700'000, '\0');
  for (std::size_t i = 0; i < program.size(); ++i) program[i] = static_cast<char>(i * 31 + i / 251);
  std::ofstream(bench.top.path / "llmlaunch-train", std::ios::binary) << program;
  bench.plan.program = PushedProgram{"llmlaunch-train", (bench.top.path / "llmlaunch-train").string()};
  bench.plan.argv = {"llmlaunch-train", "--epochs", "1"};
  std::string got;
  bench.agents[1]->on_prepare = [&](FakeRemoteShell& host, const agent::Prepare&) { host.say(agent::NeedFile{0}); };
  bench.agents[1]->on_chunk = [&](FakeRemoteShell& host, const agent::FileChunk& chunk) {
    got += as_text(chunk.data);
    if (chunk.last) host.say(agent::Ready{1});
  };
  for (auto& agent : bench.agents) agent->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  CHECK(got == program);
  const agent::Prepare& prepare = *bench.agents[0]->prepare;
  REQUIRE(prepare.files.size() == 1);
  CHECK(prepare.argv == std::vector<std::string>{"llmlaunch-file:llmlaunch-train", "--epochs", "1"});
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(program.data()), program.size(), digest);
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  CHECK(prepare.files[0].hash == hex);
  CHECK(prepare.files[0].size == program.size());
}

TEST_CASE("the libraries of a pushed program follow it to other machines, and not to this one") {
  Bench bench(2, 1);
  bench.plan.hosts[0].local = true;
  bench.plan.program = PushedProgram{"tool", fs::canonical("/proc/self/exe").string()};
  const auto libraries = libraries_of(bench.plan.program->local_path);
  REQUIRE(libraries);
  REQUIRE_FALSE(libraries->empty());
  const auto last = static_cast<std::uint32_t>(libraries->size());
  std::string got;
  bench.agents[1]->on_prepare = [&](FakeRemoteShell& host, const agent::Prepare&) { host.say(agent::NeedFile{last}); };
  bench.agents[1]->on_chunk = [&](FakeRemoteShell& host, const agent::FileChunk& chunk) {
    CHECK(chunk.index == last);
    got += as_text(chunk.data);
    if (chunk.last) host.say(agent::Ready{1});
  };
  for (auto& agent : bench.agents) agent->on_go = exit_all;
  CHECK(bench.run().exit_status == 0);
  CHECK(got == content_of(libraries->back().local_path));
  std::vector<std::string> names, wanted = {"tool"};
  for (const agent::FileSpec& file : bench.agents[1]->prepare->files) names.push_back(file.name);
  for (const PushedProgram& library : *libraries) wanted.push_back(library.name);
  CHECK(names == wanted);
  CHECK(bench.agents[1]->prepare->files[last].size == got.size());
  REQUIRE(bench.agents[0]->prepare->files.size() == 1);
  CHECK(bench.agents[0]->prepare->files[0].name == "tool");
}

TEST_CASE("a file that was never announced loses the host that asks for it") {
  Bench bench(1, 1);
  bench.agents[0]->on_prepare = [](FakeRemoteShell& host, const agent::Prepare&) { host.say(agent::NeedFile{0}); };
  const JobResult result = bench.run();
  CHECK(result.exit_status == kStatusUnavailable);
  REQUIRE(result.failure);
  CHECK(result.failure->what.find("its agent sent NeedFile of file 0, of 0 that there are") != std::string::npos);
}

TEST_CASE("a job that cannot be tried is an error and leaves no run directory half made") {
  Bench bench(1, 1);
  bench.plan.program = PushedProgram{"llmlaunch-train", "/no/such/llmlaunch-train"};
  const auto result = run_job(bench.plan, bench.options);
  REQUIRE_FALSE(result);
  CHECK(result.error().what == "cannot open /no/such/llmlaunch-train: No such file or directory");
  CHECK_FALSE(fs::exists(bench.directory()));
}

}  // namespace launcher_launch_test
