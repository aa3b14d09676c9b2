// What the head decides when a job is to end: whose failure is the cause, who has how much time, what is waited for.
#include "launcher/job_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

namespace launcher_job_stop_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;
using namespace std::chrono_literals;

TEST_CASE("a host that does not answer Stop within grace and margin is given up and named") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.grace = 10s;
  Bench job(plan);
  job.running();
  job.exited(0, 1);
  job.done(0);
  job.pass(14s, {1});
  CHECK(job.finishes == 0);
  job.pass(2s, {1});
  CHECK(job.finishes == 1);
  CHECK(job.status() == 1);
  CHECK(job.story().find("rank 0 (gpu01, pid 4000) exited with status 1") == 0);
  CHECK(job.story().find("processes may be left on gpu02: nothing more was heard from there") != std::string::npos);
}

TEST_CASE("output that waits for the terminal does not make a host be given up") {
  Bench job(plan_of(2, 1));
  job.running();
  job.message(1, agent::Output{1, kOut, Bytes(100)});
  job.exited(0, 1);
  job.done(0);
  job.killed(1, SIGTERM, false, true);
  job.pass(25s, {1});
  CHECK(job.finishes == 0);
  job.take(job.state.on_taken(1, 100, job.now));
  CHECK(job.sent<agent::Ack>(job.last).size() == 1);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.story().find("left on") == std::string::npos);
}

TEST_CASE("the job is not over before the last byte of output was written") {
  Bench job(plan_of(1, 1));
  job.running();
  job.message(0, agent::Output{0, kOut, Bytes(10)});
  job.exited(0, 0);
  job.done(0);
  CHECK(job.finishes == 0);
  job.take(job.state.on_taken(0, 10, job.now));
  CHECK(job.finishes == 1);
}

TEST_CASE("signals stop the ranks, with the shells' exit status") {
  const auto [signal, status] =
      GENERATE(table<int, int>({{SIGINT, 130}, {SIGTERM, 143}, {SIGHUP, 129}, {SIGQUIT, 131}}));
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(signal, job.now));
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);
  CHECK(job.of<AbandonTerminal>(job.last).empty());
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].text ==
        "caught " + signal_name(signal) + ": stopping 2 ranks (once more: kill at once)");
  for (const std::uint32_t rank : {0u, 1u}) job.killed(rank, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.status() == status);
  CHECK(job.story() == "interrupted by " + signal_name(signal) + "\n   2 ranks stopped by llmlaunch");
}

TEST_CASE("a signal on a machine that has called in is told with its name") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(SIGINT, job.now, "machine 1 (gpu02, pid 4711)"));
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].text ==
        "caught SIGINT on machine 1 (gpu02, pid 4711): stopping 2 ranks (once more: kill at once)");
  CHECK(job.status() == 130);
  CHECK(job.story() == "interrupted by SIGINT on machine 1 (gpu02, pid 4711)");
}

TEST_CASE("the second signal skips the grace and waits for no terminal") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(SIGINT, job.now));
  job.now += kOneStop;
  job.take(job.state.on_signal(SIGINT, job.now));
  const auto stops = job.sent<agent::Stop>(job.last);
  REQUIRE(stops.size() == 2);
  CHECK(stops[0].second.grace_ms == 0);
  CHECK(stops[0].second.signal == SIGKILL);
  CHECK(job.of<AbandonTerminal>(job.last).size() == 1);
  job.take(job.state.on_signal(SIGINT, job.now));
  CHECK(job.of<AbandonTerminal>(job.all).size() == 1);
  CHECK(job.status() == 130);
}

TEST_CASE("signals close together are one stop, which has its grace") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(SIGTERM, job.now));
  job.now += 1ms;
  job.take(job.state.on_signal(SIGTERM, job.now));
  CHECK(job.last.empty());
  job.now += kOneStop - 2ms;
  job.take(job.state.on_signal(SIGHUP, job.now));
  CHECK(job.last.empty());
  job.now += 1ms;  // measured from the first: whoever goes on asking is heard
  job.take(job.state.on_signal(SIGTERM, job.now));
  REQUIRE(job.sent<agent::Stop>(job.last).size() == 2);
  CHECK(job.sent<agent::Stop>(job.last)[0].second.signal == SIGKILL);
}

TEST_CASE("one signal for each machine is no second signal") {
  const std::string second = "machine 1 (gpu02, pid 4711)";
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(SIGTERM, job.now));
  job.take(job.state.on_signal(SIGTERM, job.now, second));
  REQUIRE(job.last.size() == 1);
  CHECK(job.of<Say>(job.last)[0].text == "caught SIGTERM on machine 1 (gpu02, pid 4711), too");
  const auto stops = job.sent<agent::Stop>(job.all);
  REQUIRE(stops.size() == 2);  // one for each host
  for (const auto& [host, stop] : stops) CHECK(stop.signal == SIGTERM);
  job.now += kOneStop;
  job.take(job.state.on_signal(SIGTERM, job.now, second));
  REQUIRE(job.sent<agent::Stop>(job.last).size() == 2);
  CHECK(job.sent<agent::Stop>(job.last)[0].second.signal == SIGKILL);
}

TEST_CASE("a signal while a failed job ends is impatience here, and not on another machine") {
  Bench job(plan_of(2, 1));
  job.running();
  job.exited(0, 3);
  job.take(job.state.on_signal(SIGTERM, job.now, "machine 1 (gpu02, pid 4711)"));
  CHECK(job.sent<agent::Stop>(job.last).empty());
  job.take(job.state.on_signal(SIGTERM, job.now));
  REQUIRE_FALSE(job.sent<agent::Stop>(job.last).empty());
  CHECK(job.sent<agent::Stop>(job.last)[0].second.signal == SIGKILL);
}

TEST_CASE("a signal while hosts connect closes them all and ends at once") {
  Bench job(plan_of(3, 1));
  job.hello(0);
  job.take(job.state.on_signal(SIGINT, job.now));
  CHECK(job.of<CloseHost>(job.last).size() == 3);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 130);
  CHECK(job.story() == "interrupted by SIGINT\n   no rank had been started");
  job.take(job.state.on_opened(1, job.now));  // its event was on the way
  CHECK(job.last.empty());
}

TEST_CASE("the whole job's time limit stops it with 124") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.run = 20s;
  Bench job(plan);
  job.running();
  job.pass(19s, {0});
  CHECK(job.sent<agent::Stop>(job.all).empty());
  job.pass(1s, {0});
  CHECK(job.sent<agent::Stop>(job.last).size() == 1);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  CHECK(job.status() == 124);
  CHECK(job.story().find("the job did not end within 20 s") == 0);
}

TEST_CASE("a grace that no message can carry becomes the longest that one can") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.grace = std::chrono::hours(1200);
  Bench job(plan);
  job.running();
  job.take(job.state.on_signal(SIGTERM, job.now));
  REQUIRE(job.sent<agent::Stop>(job.last).size() == 1);
  CHECK(job.sent<agent::Stop>(job.last)[0].second.grace_ms == UINT32_MAX);
}

TEST_CASE("a rank that was killed is the cause though its peer's exit was heard a moment before") {
  Bench job(plan_of(3, 1));
  job.running();
  job.exited(0, 69);  // "connection reset by peer"
  CHECK(job.sent<agent::Stop>(job.last).size() == 3);
  job.now += kCauseWindow;
  job.killed(2, SIGKILL, false, false);
  job.killed(1, SIGTERM, false, true);
  for (const HostIndex host : {0u, 1u, 2u}) job.done(host);
  CHECK(job.status() == 137);
  CHECK(job.story() ==
        "rank 2 (gpu03, pid 4002) was killed by SIGKILL\n"
        "   it wrote nothing\n"
        "   1 rank stopped by llmlaunch, 1 rank failed after that\n"
        "   hint: nobody here sent it; the kernel's out-of-memory killer does that: see dmesg on gpu03");
}

TEST_CASE("what else is heard after the first failure does not take its place") {
  struct Row {
    const char* name;
    agent::Exited first;
    std::chrono::milliseconds later;
    agent::Exited second;
    int status;
  };
  const std::vector<Row> rows = {
      {"two exits", {0, false, 5, false, false, 0}, 0ms, {1, false, 77, false, false, 0}, 5},
      {"a kill beyond the window", {0, false, 5, false, false, 0}, 201ms, {1, true, SIGKILL, false, false, 0}, 5},
      {"a signal of ours", {0, false, 5, false, false, 0}, 0ms, {1, true, SIGTERM, false, true, 0}, 5},
      {"two kills", {0, true, SIGSEGV, true, false, 0}, 0ms, {1, true, SIGKILL, false, false, 0}, 139},
      {"a peer that aborts", {0, false, 5, false, false, 0}, 0ms, {1, true, SIGABRT, true, false, 0}, 5},
      {"a peer whose socket is gone", {0, false, 5, false, false, 0}, 0ms, {1, true, SIGPIPE, false, false, 0}, 5},
      {"a kill after an abort", {0, true, SIGABRT, true, false, 0}, 0ms, {1, true, SIGBUS, true, false, 0}, 135},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    Bench job(plan_of(2, 1));
    job.running();
    job.message(0, row.first);
    job.now += row.later;
    job.message(1, row.second);
    for (const HostIndex host : {0u, 1u}) job.done(host);
    CHECK(job.finishes == 1);
    CHECK(job.status() == row.status);
  }
}

TEST_CASE("a signal to the head stays the cause whatever dies after it") {
  Bench job(plan_of(1, 1));
  job.running();
  job.take(job.state.on_signal(SIGINT, job.now));
  job.killed(0, SIGSEGV, true, false);
  job.done(0);
  CHECK(job.status() == 130);
}

TEST_CASE("the end of a stream after Done is no loss") {
  Bench job(plan_of(2, 1));
  job.running();
  job.exited(0, 0);
  job.done(0);
  job.take(job.state.on_lost(0, make_error(Errc::closed, "ended"), job.now));
  CHECK(job.last.empty());
  CHECK(job.of<EndGeneration>(job.all).empty());
}

TEST_CASE("who keeps the job from ending is said, a while after it was stopped") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.grace = 60s;
  Bench job(plan);
  job.running();
  job.pass(60s, {0, 1});
  CHECK(job.of<CallRoll>(job.all).empty());
  job.take(job.state.on_signal(SIGTERM, job.now));
  job.pass(4s, {0, 1});
  CHECK(job.of<CallRoll>(job.all).empty());
  job.pass(2s, {0, 1});
  CHECK(job.of<CallRoll>(job.all).size() == 1);
}

TEST_CASE("a stopped job does not wait for ever for a terminal that nobody reads") {
  Bench job(plan_of(1, 1));
  job.running();
  job.message(0, agent::Output{0, kOut, Bytes(10)});
  job.pass(120s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).empty());  // a pager may stand still for as long as it likes
  job.take(job.state.on_signal(SIGTERM, job.now));
  job.killed(0, SIGTERM, false, true);
  job.pass(1s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).size() == 1);
}

TEST_CASE("after a signal a terminal that takes nothing is waited for no longer than the grace") {
  launcher::LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.grace = 4s;
  Bench job(plan);
  job.running();
  job.take(job.state.on_signal(SIGINT, job.now));
  job.message(0, agent::Output{0, kOut, Bytes(10)});
  job.killed(0, SIGINT, false, true);
  job.pass(3s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).empty());
  job.pass(2s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).size() == 1);
  CHECK(job.state.patience_with_terminal() == 4s);
}

TEST_CASE("so it is after the job's time limit, which a pager does not lift") {
  launcher::LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.grace = 4s;
  plan.timeouts.run = 30s;
  Bench job(plan);
  job.running();
  job.pass(29s, {0});
  job.message(0, agent::Output{0, kOut, Bytes(10)});
  job.pass(2s, {0});
  job.killed(0, SIGTERM, false, true);
  CHECK(job.of<AbandonTerminal>(job.all).empty());
  job.pass(5s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).size() == 1);
  CHECK(job.state.patience_with_terminal() == 4s);
}

TEST_CASE("a job that no signal has stopped waits for its reader") {
  Bench job(plan_of(1, 1));
  job.running();
  job.message(0, agent::Output{0, kOut, Bytes(10)});
  job.exited(0, 3);
  job.pass(20s, {0});
  CHECK(job.of<AbandonTerminal>(job.all).empty());
  CHECK(job.state.patience_with_terminal() == std::nullopt);
}

}  // namespace launcher_job_stop_test
