// Every decision about a running job, driven with numbers for time and messages for hosts: no socket, no process, no
// clock. How it starts is in launcher_job_start_test.cpp, how it stops in launcher_job_stop_test.cpp.
#include "launcher/job_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

namespace launcher_job_state_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;
using namespace std::chrono_literals;

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
  REQUIRE(job.of<NoteEnded>(job.all).size() == 4);
  for (std::uint32_t rank = 0; rank < 4; ++rank) CHECK(job.of<NoteEnded>(job.all)[rank].rank == Rank{rank});
  for (const RankEnd& end : job.state.result().ranks) CHECK(end.kind == RankEnd::Kind::exited);
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
  CHECK(job.of<NoteEnded>(job.last).empty());
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
  CHECK(job.story().find("its agent was told to end on the host (by SIGTERM, or its watchman was killed)") !=
        std::string::npos);
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

TEST_CASE("a host that repeats the end of an output fills no queue") {
  Bench job(plan_of(1, 1));
  job.running();
  for (int i = 0; i < 1000; ++i) job.message(0, agent::OutputEnd{0, kOut});
  CHECK(job.of<EndOutput>(job.all).size() == 1);
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

}  // namespace launcher_job_state_test
