// What the head decides when the connection to a host ends, or nothing is heard from there.
#include <csignal>

#include "launcher/job_state.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

namespace launcher_job_cut_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;
using namespace std::chrono_literals;

TEST_CASE("an agent of this machine whose stream ends is a failure that names the host, and stops the others") {
  LaunchPlan plan = plan_of(3, 2);
  plan.hosts[2].local = true;
  Bench job(plan);
  job.running();
  job.take(job.state.on_lost(2, make_error(Errc::closed, "the connection to its agent ended"), job.now));
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);
  for (std::uint32_t rank = 0; rank < 4; ++rank) job.killed(rank, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu03 (node_rank 2, ranks 4-5): the connection to its agent ended\n"
        "   4 ranks stopped by llmlaunch, 2 ranks lost with their connection");
  CHECK(job.state.result().ranks[5].kind == RankEnd::Kind::lost);
}

TEST_CASE("a silent agent of this machine is lost at the head's deadline, one that pings is not") {
  LaunchPlan plan = plan_of(2, 1);
  plan.hosts[1].local = true;
  plan.timeouts.head = 15s;
  Bench job(plan);
  job.running();
  job.pass(14s, {0});
  CHECK(job.of<EndGeneration>(job.all).empty());
  CHECK(job.sent<agent::Ping>(job.all).size() >= 4);  // both ways: every third of the deadline
  job.pass(2s, {0});
  REQUIRE(job.of<EndGeneration>(job.all).size() == 1);
  CHECK(job.of<EndGeneration>(job.all)[0].reason == "host gpu02 (node_rank 1, rank 1): not a byte from it within 15 s");
}

TEST_CASE("a connection that ends while ranks run is made again, and nothing is stopped") {
  Bench job(plan_of(3, 2));
  job.running();
  job.take(job.state.on_lost(2, make_error(Errc::closed, "the connection to its agent ended"), job.now));
  CHECK(job.of<ReopenHost>(job.last).size() == 1);
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].text ==
        "host gpu03 (node_rank 2, ranks 4-5): connection lost: the connection to its agent ended; connecting again for "
        "15 s, its ranks run on");
  job.pass(3s, {0, 1});
  CHECK(job.of<ReopenHost>(job.all).size() == 1);  // one attempt at a time
  CHECK(job.state.setback(2) == "the connection to its agent ended");
  CHECK(job.state.setback(1).empty());
  job.take(job.state.on_rejoined(2, job.now));
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].text ==
        "host gpu03 (node_rank 2, ranks 4-5): connected again after 3.0 s; nothing was lost");
  job.output(5, kOut, "on we go\n");
  for (std::uint32_t rank = 0; rank < 6; ++rank) job.exited(rank, 0);
  for (const HostIndex host : {0, 1, 2}) job.done(host);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 0);
  CHECK(job.sent<agent::Bye>(job.all).size() == 3);
}

TEST_CASE("attempts to reach a cut host are spaced, and the last one's reason is told when it is lost") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::closed, "sshd closed the connection"), job.now));
  for (int i = 0; i < 160; ++i) {
    const bool attempted = !job.of<ReopenHost>(job.last).empty();
    if (attempted) {
      const Error error = refused("connection refused");
      job.take(job.state.on_open_failed(1, error, OpenStep::connecting, job.now));
      CHECK(job.state.setback(1) == "connection refused");
    }
    job.now += 100ms;
    job.state.on_bytes(0, job.now);
    job.take(job.state.on_tick(job.now));
  }
  const std::size_t attempts = job.of<ReopenHost>(job.all).size();
  CHECK(attempts >= 8);  // 0.2, 0.4, 0.8, 1.6 s, then every 2 s of 15
  CHECK(attempts <= 12);
  CHECK(job.state.result().ranks[1].kind == RankEnd::Kind::lost);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, rank 1): connection lost: sshd closed the connection; it could not be reached again "
        "within 15 s: connection refused\n"
        "   1 rank stopped by llmlaunch, 1 rank lost with its connection\n"
        "   hint: the host is down, or the way to it is cut; llmlaunch.timeouts.head is how long that is taken");
}

TEST_CASE("a machine that has called in is lost with its connection, as nobody can connect to it again") {
  LaunchPlan plan = plan_of(2, 1);
  plan.hosts[1].calls_in = true;
  Bench job(plan);
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::closed, "the connection of its llmlaunch ended"), job.now));
  CHECK(job.of<ReopenHost>(job.all).empty());
  CHECK(job.status() == 69);
  CHECK(job.story().find("host gpu02 (node_rank 1, rank 1): the connection of its llmlaunch ended") == 0);
}

TEST_CASE("a cut host whose agent is gone is lost at once") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::closed, "the connection to its agent ended"), job.now));
  job.take(job.state.on_not_rejoined(1, make_error(Errc::not_found, "the agent is gone"), job.now));
  CHECK(job.sent<agent::Stop>(job.last).size() == 1);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, rank 1): connection lost: the connection to its agent ended; connected again: the "
        "agent is gone\n"
        "   1 rank stopped by llmlaunch, 1 rank lost with its connection");
}

TEST_CASE("the last line of each rank that was lost with its host is told, of eight at most") {
  Bench job(plan_of(2, 10));
  job.running();
  job.output(10, agent::Stream::out, "from stdout\n");
  for (std::uint32_t rank = 11; rank < 20; ++rank) {
    job.output(rank, agent::Stream::out, "not this one\n");
    job.output(rank, agent::Stream::err, "earlier\nfrom stderr\n");
  }
  job.take(job.state.on_lost(1, make_error(Errc::closed, "cut"), job.now));
  job.take(job.state.on_not_rejoined(1, make_error(Errc::not_found, "the agent is gone", {}, "do this"), job.now));
  for (std::uint32_t rank = 0; rank < 10; ++rank) job.killed(rank, SIGTERM, false, true);
  job.done(0);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, ranks 10-19): connection lost: cut; connected again: the agent is gone\n"
        "   the last lines from there:\n"
        "     rank 10 | from stdout\n"
        "     rank 11 | from stderr\n"
        "     rank 12 | from stderr\n"
        "     rank 13 | from stderr\n"
        "     rank 14 | from stderr\n"
        "     rank 15 | from stderr\n"
        "     rank 16 | from stderr\n"
        "     rank 17 | from stderr\n"
        "     and 2 ranks more\n"
        "   all of it: /logs/job-1\n"
        "   10 ranks stopped by llmlaunch, 10 ranks lost with their connection\n"
        "   hint: do this");
}

TEST_CASE("a host whose agent is gone is not one where processes may be left, though the job was being stopped") {
  LaunchPlan plan = plan_of(3, 1);
  Bench job(plan);
  job.running();
  for (const HostIndex host : {0u, 1u}) job.take(job.state.on_lost(host, make_error(Errc::closed, "cut"), job.now));
  job.take(job.state.on_not_rejoined(1, make_error(Errc::not_found, "the agent is gone"), job.now));
  job.take(job.state.on_not_rejoined(0, make_error(Errc::not_found, "the agent is gone"), job.now));
  job.killed(2, SIGTERM, false, true);
  job.done(2);
  CHECK(job.finishes == 1);
  CHECK(job.story() ==
        "host gpu02 (node_rank 1, rank 1): connection lost: cut; connected again: the agent is gone\n"
        "   1 rank stopped by llmlaunch, 2 ranks lost with their connection");
}

TEST_CASE("a silent host is reached over another connection in the second half of its time") {
  Bench job(plan_of(2, 1));
  job.running();
  job.pass(7s, {0});
  CHECK(job.of<ReopenHost>(job.all).empty());
  job.pass(1s, {0});
  CHECK(job.of<ReopenHost>(job.all).size() == 1);
  CHECK(job.of<EndGeneration>(job.all).empty());
  job.pass(7s, {0});
  REQUIRE(job.of<EndGeneration>(job.all).size() == 1);
  CHECK(job.of<EndGeneration>(job.all)[0].reason ==
        "host gpu02 (node_rank 1, rank 1): connection lost: not a byte from it within 7.5 s; it could not be reached "
        "again within 7 s");
}

TEST_CASE("a host that is cut has the time of its agent to hear of a stop") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.grace = 1s;
  Bench job(plan);
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::closed, "cut"), job.now));
  job.take(job.state.on_signal(SIGINT, job.now));
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);  // one of them is kept for it
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  job.pass(14s, {});
  CHECK(job.finishes == 0);
  job.take(job.state.on_rejoined(1, job.now));
  job.killed(1, SIGTERM, false, true);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 130);
}

TEST_CASE("bytes that are no message are no reason to come back") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::protocol, "an empty frame"), job.now));
  CHECK(job.of<ReopenHost>(job.all).empty());
  CHECK(job.state.result().ranks[1].kind == RankEnd::Kind::lost);
}

TEST_CASE("when the head itself slept, silence is nobody's fault, and it is said who was silent") {
  Bench job(plan_of(2, 1));
  job.running();
  job.tick(7s);
  CHECK(job.of<Say>(job.last).empty());  // no host has thought of anything yet
  job.tick(30s);
  CHECK(job.of<ReopenHost>(job.all).empty());
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].level == LogLevel::warning);
  CHECK(job.of<Say>(job.last)[0].text ==
        "llmlaunch itself stood still for 30.0 s; hosts end their ranks when they hear nothing for 15 s "
        "(llmlaunch.timeouts.head)");
  job.pass(7s, {});
  CHECK(job.of<ReopenHost>(job.all).empty());
  job.pass(1s, {});
  CHECK(job.of<ReopenHost>(job.all).size() == 2);
  CHECK(job.of<EndGeneration>(job.all).empty());
}

TEST_CASE("hosts that soon end their ranks do so while the head sleeps for a moment, which it says") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.head = 3s;
  Bench job(plan);
  job.running();
  job.tick(1400ms);
  CHECK(job.of<Say>(job.last).empty());
  job.tick(1900ms);  // what they heard last may be a second older
  REQUIRE(job.of<Say>(job.last).size() == 1);
  CHECK(job.of<Say>(job.last)[0].text ==
        "llmlaunch itself stood still for 1.9 s; hosts end their ranks when they hear nothing for 3 s "
        "(llmlaunch.timeouts.head)");
}

TEST_CASE("output that waited on a host is taken to its end, however long that takes after its ranks") {
  LaunchPlan plan = plan_of(2, 1);
  plan.timeouts.grace = 1s;
  Bench job(plan);
  job.running();
  job.take(job.state.on_lost(1, make_error(Errc::closed, "cut"), job.now));
  job.take(job.state.on_rejoined(1, job.now));
  job.exited(0, 0);
  job.done(0);
  job.exited(1, 0);  // overtakes what its rank wrote
  for (int second = 0; second < 60; ++second) {
    job.output(1, kOut, "a slow way\n");
    job.pass(1s, {1});
  }
  CHECK(job.finishes == 0);
  CHECK(job.state.result().ranks[1].kind == RankEnd::Kind::exited);

  SECTION("and then the host is done") {
    job.done(1);
    CHECK(job.finishes == 1);
    CHECK(job.status() == 0);
  }
  SECTION("or it says no more: it is given up") {
    job.pass(3s, {1});
    CHECK(job.finishes == 0);
    job.pass(1s, {1});
    CHECK(job.finishes == 1);
    CHECK(job.status() == 69);
  }
  SECTION("a second Ctrl-C does not wait for the rest") {
    job.take(job.state.on_signal(SIGINT, job.now));
    job.now += kOneStop;
    job.take(job.state.on_signal(SIGINT, job.now));
    for (int second = 0; second < 4; ++second) {
      CHECK(job.finishes == 0);
      job.output(1, kOut, "more and more\n");
      job.pass(1s, {1});
    }
    CHECK(job.finishes == 1);
    CHECK(job.status() == 130);
  }
}

}  // namespace launcher_job_cut_test
