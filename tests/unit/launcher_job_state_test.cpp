// Every decision about a job, driven with numbers for time and messages for hosts: no socket, no process, no clock.
#include "launcher/job_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

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

TEST_CASE("a job whose ranks all end with 0 finishes with 0 when every host is done") {
  Bench job(plan_of(2, 2));
  job.running();
  for (std::uint32_t rank = 0; rank < 4; ++rank) job.exited(rank, 0);
  job.done(0);
  CHECK(job.finishes == 0);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 0);
  CHECK_FALSE(job.state.result().failure);
  CHECK(job.of<EndGeneration>(job.all).empty());
  for (const RankEnd& end : job.state.result().ranks) CHECK(end.kind == RankEnd::Kind::exited);
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

TEST_CASE("the first failing rank is the headline; the others are stopped and counted") {
  Bench job(plan_of(2, 2));
  job.running();
  job.output(1, kOut, "step 1\n");
  job.output(1, kErr, "Traceback\nno such file: data.bin\n");
  job.exited(1, 3);
  const auto stops = job.sent<agent::Stop>(job.last);
  REQUIRE(stops.size() == 2);
  CHECK(stops[0].second.signal == SIGTERM);
  CHECK(stops[0].second.grace_ms == 10'000);
  REQUIRE(job.of<EndGeneration>(job.last).size() == 1);
  CHECK(job.of<EndGeneration>(job.last)[0].reason == "rank 1 (gpu01, pid 4001) exited with status 3");
  job.exited(2, 77);  // its peer is gone; it says so before the stop reaches it
  job.killed(0, SIGTERM, false, true);
  job.killed(3, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 3);
  CHECK(job.story() ==
        "rank 1 (gpu01, pid 4001) exited with status 3\n"
        "   its last lines on stderr:\n"
        "     | Traceback\n"
        "     | no such file: data.bin\n"
        "   all of it: /logs/job-1/rank-00001.out, .err\n"
        "   2 ranks stopped by llmlaunch, 1 rank failed after that");
  CHECK(job.state.result().failure->code == Errc::rank_failed);
}

TEST_CASE("a rank killed by a signal gives 128 + its number and the signal's name") {
  Bench job(plan_of(2, 1));
  job.running();
  job.killed(1, SIGSEGV, true, false);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.status() == 128 + SIGSEGV);
  CHECK(job.story() ==
        "rank 1 (gpu02, pid 4001) was killed by SIGSEGV (core dumped)\n"
        "   it wrote nothing\n"
        "   1 rank stopped by llmlaunch");
}

TEST_CASE("a rank killed by SIGKILL points to the out-of-memory killer") {
  Bench job(plan_of(1, 1));
  job.running();
  job.killed(0, SIGKILL, false, false);
  job.done(0);
  CHECK(job.status() == 137);
  CHECK(job.story().find("out-of-memory killer does that: see dmesg on gpu01") != std::string::npos);
}

TEST_CASE("a program that its loader could not load comes with the cause, and others do not") {
  const std::string glibc =
      "glibc on gpu01 is older than the one that the program was built with; build it (for train: llmlaunch) on a "
      "system as old as that host's, or update the host";
  const std::string library =
      "install on gpu01 what brings that library, or name its directory in LD_LIBRARY_PATH below llmlaunch.env";
  struct Row {
    agent::Stream stream;
    std::string said;
    int status;
    std::string hint;
  };
  const std::vector<Row> rows = {
      {kErr, "p: /lib/libc.so.6: version `GLIBC_2.38' not found (required by p)\n", 1, glibc},
      {kErr, "p: /lib/libc.so.6: version `GLIBC_ABI_DT_RELR' not found (required by /c/libz.so.1)\n", 1, glibc},
      {kErr, "p: symbol lookup error: p: undefined symbol: __isoc23_strtol, version GLIBC_2.38\n", 127, glibc},
      {kErr, "p: error while loading shared libraries: libz.so.1: cannot open shared object file\n", 127, library},
      {kErr, "p: error while loading shared libraries: libz.so.1: cannot open shared object file\n", 3, ""},
      {kErr, "p: /lib/libc.so.6: version `GLIBC_2.38' not found (required by p)\n", 3, ""},
      {kErr, "p: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by p)\n", 1, ""},
      {kErr, "sh: 1: p: not found\n", 127, ""},
      {kOut, "p: error while loading shared libraries: a log says so\n", 127, ""},
  };
  for (const Row& row : rows) {
    INFO(row.said);
    Bench job(plan_of(1, 1));
    job.running();
    job.output(0, row.stream, row.said);
    job.exited(0, row.status);
    job.done(0);
    REQUIRE(job.state.result().failure);
    CHECK(job.state.result().failure->hint == row.hint);
    CHECK(job.story().find(row.said.substr(0, row.said.size() - 1)) != std::string::npos);
    CHECK(job.status() == row.status);
  }
}

TEST_CASE("a rank that cannot be started after Go stops the job") {
  Bench job(plan_of(2, 1));
  job.ready(0);
  job.ready(1);
  job.started(0);
  job.message(1, agent::Failed{static_cast<int>(Errc::out_of_resources), 1, "fork: Resource temporarily unavailable",
                               "ulimit -u"});
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.finishes == 1);
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "rank 1 (gpu02) could not be started: fork: Resource temporarily unavailable\n"
        "   1 rank stopped by llmlaunch\n"
        "   hint: ulimit -u");
}

TEST_CASE("a rank that its agent stopped without our word is a failure of the host") {
  Bench job(plan_of(2, 1));
  job.running();
  job.killed(1, SIGTERM, false, true);
  CHECK(job.sent<agent::Stop>(job.last).size() == 2);
  job.killed(0, SIGTERM, false, true);
  job.done(0);
  job.done(1);
  CHECK(job.status() == 69);
  CHECK(job.story().find("its agent was asked to end by someone on the host") != std::string::npos);
}

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

TEST_CASE("the second signal skips the grace and waits for no terminal") {
  Bench job(plan_of(2, 1));
  job.running();
  job.take(job.state.on_signal(SIGINT, job.now));
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

TEST_CASE("credit is given when a quarter of the window was taken, or when all was") {
  Bench job(plan_of(1, 1));
  job.running();
  const std::size_t window = window_bytes(1);
  job.message(0, agent::Output{0, kOut, Bytes(window / 2)});
  job.take(job.state.on_taken(0, window / 8, job.now));
  CHECK(job.sent<agent::Ack>(job.last).empty());
  job.take(job.state.on_taken(0, window / 8, job.now));
  REQUIRE(job.sent<agent::Ack>(job.last).size() == 1);
  CHECK(job.sent<agent::Ack>(job.last)[0].second.output_bytes == window / 4);
  job.take(job.state.on_taken(0, window / 4, job.now));
  CHECK(job.sent<agent::Ack>(job.last)[0].second.output_bytes == window / 2);
}

TEST_CASE("the windows of all hosts together stay below their limit") {
  CHECK(window_bytes(4) == 256u << 10);
  for (const std::size_t hosts : {1u, 128u, 1000u, 4096u}) CHECK(hosts * window_bytes(hosts) <= kMaxWindowsBytes);
}

TEST_CASE("a host that breaks the protocol is lost, and no other") {
  struct Row {
    const char* name;
    std::vector<agent::AgentMessage> messages;
    const char* what;
  };
  const std::vector<Row> rows = {
      {"a second Hello", {agent::Hello{}}, "a second Hello"},
      {"Ready after Go", {agent::Ready{1}}, "a Ready that nobody asked for"},
      {"another's rank started", {agent::Started{0, 1}}, "Started of rank 0"},
      {"started twice", {agent::Started{1, 1}}, "Started of rank 1"},
      {"a rank beyond the world", {agent::Exited{9, false, 0, false, false, 0}}, "Exited of rank 9"},
      {"a status that no process has", {agent::Exited{1, false, 256, false, false, 0}}, "Exited with status 256"},
      {"a signal that is none", {agent::Exited{1, true, 0, false, false, 0}}, "Exited with signal 0"},
      {"another's output", {agent::Output{0, kOut, Bytes(1)}}, "output of another host's rank"},
      {"another's end", {agent::OutputEnd{0, kOut}}, "the end of another host's output"},
      {"a second end",
       {agent::OutputEnd{1, kOut}, agent::OutputEnd{1, kErr}, agent::OutputEnd{1, kOut}},
       "an end of the output of rank 1 out of turn"},
      {"output after its end",
       {agent::OutputEnd{1, kErr}, agent::Output{1, kErr, Bytes(1)}},
       "output of rank 1 after its end"},
      {"done with an open output",
       {agent::OutputEnd{1, kOut}, agent::Exited{1, false, 0, false, false, 0}, agent::Done{}},
       "Done before the output of its ranks had ended"},
      {"more than its window",
       {agent::Output{1, kOut, Bytes(256u << 10)}, agent::Output{1, kOut, Bytes(1)}},
       "more output than its window"},
      {"done too early", {agent::Done{}}, "Done before all of its ranks had ended"},
      {"a file after Go", {agent::NeedFile{0}}, "NeedFile"},
      {"Failed of a started rank", {agent::Failed{1, 1, "x", ""}}, "Failed of rank 1"},
      {"Failed of a huge rank", {agent::Failed{1, INT64_MAX, "x", ""}}, "Failed of rank"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    Bench job(plan_of(2, 1));
    job.running();
    for (const agent::AgentMessage& message : row.messages) job.message(1, message);
    REQUIRE(job.of<EndGeneration>(job.all).size() == 1);
    CHECK(job.of<EndGeneration>(job.all)[0].reason.find(
              std::string("host gpu02 (node_rank 1, rank 1): its agent sent ") + row.what) == 0);
    CHECK(job.sent<agent::Stop>(job.all).size() == 1);
  }
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

TEST_CASE("a host that repeats the end of an output fills no queue") {
  Bench job(plan_of(1, 1));
  job.running();
  for (int i = 0; i < 1000; ++i) job.message(0, agent::OutputEnd{0, kOut});
  CHECK(job.of<EndOutput>(job.all).size() == 1);
}

TEST_CASE("rank 0's host needs a free port, the others do not") {
  Bench job(plan_of(2, 1));
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

TEST_CASE("a grace that no message can carry becomes the longest that one can") {
  LaunchPlan plan = plan_of(1, 1);
  plan.timeouts.grace = std::chrono::hours(1200);
  Bench job(plan);
  job.running();
  job.take(job.state.on_signal(SIGTERM, job.now));
  REQUIRE(job.sent<agent::Stop>(job.last).size() == 1);
  CHECK(job.sent<agent::Stop>(job.last)[0].second.grace_ms == UINT32_MAX);
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

TEST_CASE("a host's stage is its shell's step until it is open, and then what its agent said") {
  Bench job(plan_of(3, 1));
  using enum HostStage;
  CHECK(job.state.stage(0, OpenStep::waiting) == connecting);
  CHECK(job.state.stage(0, OpenStep::resolving) == connecting);
  CHECK(job.state.stage(0, OpenStep::host_key) == connecting);
  CHECK(job.state.stage(0, OpenStep::authenticating) == authenticating);
  CHECK(job.state.stage(0, OpenStep::starting) == starting);
  CHECK(job.state.stage(0, OpenStep::pushing) == pushing);
  job.hello(0);
  CHECK(job.state.stage(0, OpenStep::open) == checking);
  job.ready(1);
  CHECK(job.state.stage(1, OpenStep::open) == ready);
  job.take(job.state.on_open_failed(2, make_error(Errc::refused, "no"), OpenStep::connecting, job.now));
  CHECK(job.state.stage(2, OpenStep::connecting) == failed);
  Bench other(plan_of(1, 1));
  other.running();
  CHECK(other.state.stage(0, OpenStep::open) == running);
  other.take(other.state.on_lost(0, make_error(Errc::closed, "cut"), other.now));
  CHECK(other.state.stage(0, OpenStep::open) == connecting);
}

TEST_CASE("what a failed rank wrote is where the configuration keeps it") {
  LaunchPlan plan = plan_of(1, 1);
  plan.logs.per_rank = GENERATE(true, false);
  plan.logs.merged = GENERATE(true, false);
  Bench job(plan);
  job.running();
  job.output(0, kErr, "bad\n");
  job.outputs_end(0);
  job.exited(0, 3);
  const std::string text = to_string(*job.state.result().failure);
  CHECK((text.find("all of it: /logs/job-1/rank-00000.out, .err") != std::string::npos) == plan.logs.per_rank);
  CHECK((text.find("all of it: /logs/job-1/merged.log") != std::string::npos) ==
        (plan.logs.merged && !plan.logs.per_rank));
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

TEST_CASE("the tail of a stream is its last whole lines") {
  OutputTail tail;
  tail.append(as_bytes("10%\r20%\r30%\nerror: "));
  tail.append(as_bytes("no memory\r\nlast"));
  CHECK(tail.lines() == std::vector<std::string>{"30%", "error: no memory", "last"});
  OutputTail long_tail;
  for (int i = 0; i < 10'000; ++i) long_tail.append(as_bytes("line " + std::to_string(i) + "\n"));
  const auto lines = long_tail.lines();
  REQUIRE(lines.size() == kTailLines);
  CHECK(lines.front() == "line 9980");
  CHECK(lines.back() == "line 9999");
}
