// What the head decides until all hosts are ready: who connects when, who is tried again, who keeps the job waiting.
#include "launcher/job_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

namespace launcher_job_start_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;
using namespace std::chrono_literals;

TEST_CASE("no host gets Go before all hosts are ready") {
  Bench job(plan_of(3, 2));
  CHECK(job.of<OpenHost>(job.all).size() == 3);
  job.ready(0);
  job.ready(2);
  CHECK(job.of<SendGo>(job.all).empty());
  job.hello(1);
  CHECK(job.of<SendPrepare>(job.last).size() == 1);
  CHECK(job.of<SendGo>(job.all).empty());
  job.message(1, agent::Ready{1});
  const auto go = job.of<SendGo>(job.last);
  REQUIRE(go.size() == 3);
  for (const SendGo& one : go) CHECK(one.master_port == 40000);  // the port that was free on rank 0's host
}

TEST_CASE("a host that does not reach the head fails, unless its ranks meet elsewhere") {
  agent::Ready ready{1};
  ready.reach.failures = "10.0.0.1:29400: Connection refused";
  Bench job(plan_of(2, 1));
  job.ready(0);
  job.hello(1);
  job.message(1, ready);
  CHECK(job.of<SendGo>(job.all).empty());
  const JobResult result = job.state.result();
  REQUIRE(result.failure);
  CHECK(result.failure->code == Errc::unreachable);
  CHECK(result.failure->hint.find("llmlaunch.rendezvous.via: ssh") != std::string::npos);

  LaunchPlan plan = plan_of(1, 1);
  plan.use_agent_store = false;  // rank 0 makes a store of its own
  Bench other(plan);
  other.hello(0);
  other.message(0, ready);
  CHECK(other.of<SendGo>(other.all).size() == 1);
  const auto said = other.of<Say>(other.all);
  REQUIRE(said.size() == 1);
  CHECK(said[0].level == LogLevel::warning);
  CHECK(said[0].text.ends_with("no connection to the rendezvous on the head (10.0.0.1:29400: Connection refused)"));
}

TEST_CASE("only a host that was asked to carry connections may") {
  Bench never(plan_of(1, 1));
  never.ready(0);
  never.message(0, agent::CarriedOpen{0});
  CHECK(never.state.result().failure);
  LaunchPlan plan = plan_of(1, 1);
  plan.rendezvous_via = RendezvousWay::ssh;
  Bench job(plan);
  job.ready(0);
  job.message(0, agent::CarriedOpen{0});
  CHECK(job.of<Carry>(job.last).size() == 1);
  CHECK_FALSE(job.state.result().failure);
}

TEST_CASE("at most fanout hosts connect at the same time") {
  LaunchPlan plan = plan_of(5, 1);
  plan.ssh.fanout = 2;
  Bench job(plan);
  CHECK(job.of<OpenHost>(job.all).size() == 2);
  job.opened(0);
  CHECK(job.of<OpenHost>(job.all).size() == 3);
  job.take(job.state.on_open_failed(1, refused("no"), OpenStep::connecting, job.now));
  CHECK(job.of<OpenHost>(job.all).size() == 4);
}

TEST_CASE("hosts that never answer give their places to others after a second, also those of a fixed fanout") {
  LaunchPlan plan = plan_of(6, 1);
  plan.ssh.fanout = 2;
  Bench job(plan);
  const auto pass = [&job](int ticks) {
    for (int i = 0; i < ticks; ++i) job.tick(100ms);
  };
  const auto opening = [&job] { return job.of<OpenHost>(job.all).size(); };
  pass(5);
  job.state.on_step(1, OpenStep::key_exchange, job.now);
  pass(5);
  CHECK(opening() == 2);
  pass(1);
  CHECK(opening() == 3);  // host 0 has not moved
  pass(5);
  CHECK(opening() == 4);  // nor has host 1 since
  job.opened(2);
  CHECK(opening() == 5);
  job.opened(0);  // has no place to give
  CHECK(opening() == 5);
  job.opened(3);
  CHECK(opening() == 6);
}

TEST_CASE("a head of one core starts with 32 hosts at a time, one of eight with 128") {
  for (const auto& [cores, places] : {std::pair<std::size_t, std::size_t>{1, 32}, {8, 128}, {64, 200}}) {
    JobState state(plan_of(200, 1), kFiles, "/logs/job-1", TimePoint{}, cores);
    CHECK(state.start(TimePoint{}).size() == places);
  }
}

TEST_CASE("a connection that an sshd drops halves the number of hosts on their way") {
  Bench job(plan_of(100, 1));
  CHECK(job.of<OpenHost>(job.all).size() == 32);
  job.take(job.state.on_open_failed(0, make_error(Errc::closed, "dropped"), OpenStep::key_exchange, job.now));
  CHECK(job.of<OpenHost>(job.all).size() == 32);
  for (HostIndex host = 1; host < 16; ++host) job.opened(host);
  CHECK(job.of<OpenHost>(job.all).size() == 32);  // 16 are on their way
  job.opened(16);
  CHECK(job.of<OpenHost>(job.all).size() == 34);  // the window grew with the 16th
}

TEST_CASE("one host that fails before the start rolls all others back, and no rank was started") {
  Bench job(plan_of(3, 2));
  job.ready(0);
  job.take(job.state.on_open_failed(1, refused("connection to 10.0.0.2:22 refused"), OpenStep::connecting, job.now));
  CHECK(job.of<SendMessage>(job.all).size() == 0);  // host 2 may have something to say, too
  job.ready(2);
  CHECK(job.of<SendGo>(job.all).empty());
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);
  CHECK(job.of<EndGeneration>(job.last).size() == 1);
  job.done(0);
  job.done(2);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, ranks 2-3): connection to 10.0.0.2:22 refused\n"
        "   no rank was started on any host\n"
        "   hint: start sshd there");
  for (const RankEnd& end : job.state.result().ranks) CHECK(end.kind == RankEnd::Kind::not_started);
}

TEST_CASE("several hosts that fail before the start are all listed, each with its reason") {
  Bench job(plan_of(3, 1));
  job.take(
      job.state.on_open_failed(2, make_error(Errc::host_key_unknown, "unknown key", "host gpu03", "ssh-keyscan gpu03"),
                               OpenStep::host_key, job.now));
  job.take(job.state.on_open_failed(0, refused("connection refused"), OpenStep::connecting, job.now));
  job.hello(1);
  job.message(
      1, agent::Failed{static_cast<int>(Errc::no_workdir), -1, "working directory '/x': No such file", "create it"});
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu01 (node_rank 0, rank 0): connection refused\n"
        "      hint: start sshd there\n"
        "   host gpu02 (node_rank 1, rank 1): working directory '/x': No such file\n"
        "      hint: create it\n"
        "   host gpu03 (node_rank 2, rank 2): unknown key\n"
        "      hint: ssh-keyscan gpu03\n"
        "   no rank was started on any host");
}

TEST_CASE("hosts that fail before the start for one reason are one line") {
  Bench job(plan_of(4, 1));
  job.take(job.state.on_open_failed(1, refused("connection refused"), OpenStep::connecting, job.now));
  for (const HostIndex host : {0, 2, 3}) {
    job.hello(host);
    job.message(host, agent::Failed{static_cast<int>(Errc::no_workdir), -1, "working directory '/x': No such file",
                                    "create it"});
  }
  CHECK(job.story() ==
        "3 hosts gpu[01,03-04]: working directory '/x': No such file\n"
        "      hint: create it\n"
        "   host gpu02 (node_rank 1, rank 1): connection refused\n"
        "      hint: start sshd there\n"
        "   no rank was started on any host");
}

TEST_CASE("a command that does not exist is 127, one that may not be executed 126") {
  const auto [code, status] =
      GENERATE(table<Errc, int>({{Errc::no_program, 127}, {Errc::not_executable, 126}, {Errc::no_workdir, 69}}));
  Bench job(plan_of(1, 1));
  job.hello(0);
  job.message(0, agent::Failed{static_cast<int>(code), -1, "no program 'x' in PATH (/bin)", ""});
  CHECK(job.finishes == 1);
  CHECK(job.status() == status);
}

TEST_CASE("a connection dropped before the key exchange is tried again, with growing delay and not for ever") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.connect = 10s;
  Bench job(plan);
  const Error dropped = make_error(Errc::closed, "connection closed by 10.0.0.1:22");
  int opened = 1;
  while (job.finishes == 0) {
    CHECK(job.state.setback(0) == (opened == 1 ? "" : dropped.what));
    job.take(job.state.on_open_failed(0, dropped, OpenStep::key_exchange, job.now));
    for (int ticks = 0; ticks < 100 && job.of<OpenHost>(job.last).empty() && job.finishes == 0; ++ticks)
      job.tick(100ms);
    opened += static_cast<int>(job.of<OpenHost>(job.last).size());
    REQUIRE(opened < 20);
  }
  CHECK(opened == kMaxOpenAttempts);
  CHECK(job.now.time_since_epoch() < 10s);
  CHECK(job.story().find("connection closed by 10.0.0.1:22 (6 attempts)") != std::string::npos);
}

TEST_CASE("a refused key is not tried again") {
  Bench job(plan_of(1, 1));
  job.take(job.state.on_open_failed(0, make_error(Errc::closed, "closed"), OpenStep::authenticating, job.now));
  CHECK(job.finishes == 1);
}

TEST_CASE("a host that is not ready in time fails, and pushing a file prolongs its time") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.start = 60s;
  Bench job(plan);
  job.hello(0);
  job.message(0, agent::NeedFile{0});
  REQUIRE(job.of<SendFile>(job.last).size() == 1);
  job.pass(50s, {0});
  job.state.on_pushed(0, job.now);
  job.pass(50s, {0});
  CHECK(job.finishes == 0);
  job.pass(11s, {0});
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story().find("its agent was not ready within 60 s") != std::string::npos);
}

TEST_CASE("a host is sent each file once, and no file that there is not") {
  struct Row {
    std::vector<std::uint32_t> asked;
    bool local;
    const char* what;
  };
  const std::vector<Row> rows = {
      {{0, 1}, false, ""},
      {{1, 1}, false, "a second NeedFile of file 1"},
      {{0, 1, 0}, false, "a second NeedFile of file 0"},
      {{2}, false, "NeedFile of file 2, of 2 that there are"},
      {{UINT32_MAX}, false, "NeedFile of file 4294967295, of 2 that there are"},
      {{0, 1}, true, "NeedFile of file 1, of 1 that there are"},  // it has the libraries where the head found them
  };
  for (const Row& row : rows) {
    INFO(row.what);
    LaunchPlan plan = plan_of(1, 1);
    plan.hosts[0].local = row.local;
    Bench job(plan);
    job.hello(0);
    for (const std::uint32_t index : row.asked) job.message(0, agent::NeedFile{index});
    const bool good = std::string_view(row.what).empty();
    CHECK(job.of<SendFile>(job.all).size() == row.asked.size() - (good ? 0 : 1));
    REQUIRE(job.finishes == (good ? 0 : 1));
    if (good) continue;
    CHECK(job.story().find(std::string("host gpu01 (node_rank 0, rank 0): its agent sent ") + row.what) == 0);
  }
}

TEST_CASE("a host that asks for the same file again and again does not prolong its time") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.start = 60s;
  Bench job(plan);
  job.hello(0);
  for (int i = 0; i < 100'000 && job.finishes == 0; ++i) {
    job.message(0, agent::NeedFile{0});
    if (!job.of<SendFile>(job.last).empty()) job.state.on_pushed(0, job.now);
    job.tick(10ms);
  }
  CHECK(job.finishes == 1);
  CHECK(job.of<SendFile>(job.all).size() == 1);
}

TEST_CASE("rank 0's host needs no free port while the head serves PyTorch's store") {
  Bench job(plan_of(2, 1));
  for (HostIndex host = 0; host < 2; ++host) {
    job.hello(host);
    job.message(host, agent::Ready{0});
  }
  CHECK(job.of<SendGo>(job.all).size() == 2);
}

TEST_CASE("where rank 0 makes the store, its host needs a free port, and the others do not") {
  LaunchPlan plan = plan_of(2, 1);
  plan.use_agent_store = false;
  Bench job(plan);
  job.hello(1);
  job.message(1, agent::Ready{0});
  CHECK(job.finishes == 0);
  job.hello(0);
  job.message(0, agent::Ready{0});
  CHECK(job.of<SendGo>(job.all).empty());
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu01 (node_rank 0, rank 0): its agent found no free TCP port for MASTER_PORT\n"
        "   no rank was started on any host\n"
        "   hint: rank 0 runs there and needs one; `ss -s` on the host shows what takes the ports");
}

TEST_CASE("a shell that neither opens nor fails is given up when all its limits have passed") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.connect = 30s;
  plan.timeouts.start = 100s;
  Bench job(plan);
  job.ready(0);
  job.pass(1899s, {0});
  CHECK(job.finishes == 0);
  job.pass(1s, {0});
  CHECK(job.sent<agent::Stop>(job.last).size() == 1);
  job.done(0);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, rank 1): it was neither open nor refused within 1900 s\n"
        "   no rank was started on any host\n"
        "   hint: llmlaunch.timeouts.connect and llmlaunch.timeouts.start limit the steps on the way there");
}

TEST_CASE("who keeps the job from starting is said, now and then") {
  Bench job(plan_of(3, 1));
  job.ready(1);
  job.pass(4s, {1});
  CHECK(job.of<CallRoll>(job.all).empty());
  job.pass(2s, {1});
  CHECK(job.of<CallRoll>(job.all).size() == 1);
  job.pass(28s, {1});
  CHECK(job.of<CallRoll>(job.all).size() == 1);
  job.pass(2s, {1});
  CHECK(job.of<CallRoll>(job.all).size() == 2);
}

}  // namespace launcher_job_start_test
