// States of hosts and a width → text. Time is a number.
#include "launcher/roll_call.hpp"

#include "tests/support/catch.hpp"

namespace launcher_roll_call_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;
using enum HostStage;

namespace {

constexpr TimePoint kStart{};

RollCall call_of(const std::vector<HostStage>& stages, TimePoint at = kStart) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < stages.size(); ++i) names.push_back("gpu0" + std::to_string(i + 1));
  RollCall call(names, kStart);
  for (std::size_t i = 0; i < stages.size(); ++i) call.set(i, stages[i], at);
  return call;
}

}  // namespace

TEST_CASE("the line counts hosts by how far they are, in the order of the way") {
  CHECK(call_of({waiting, ready, connecting, authenticating, connecting}).line(80, kStart) ==
        "llmlaunch: 1 waiting, 2 connecting, 1 authenticating, 1 ready");
  CHECK(call_of({starting, pushing, checking, running, exited, failed}).line(100, kStart) ==
        "llmlaunch: 1 starting agent, 1 pushing agent, 1 in checks, 1 running, 1 exited, 1 failed");
}

TEST_CASE("who takes long is named, slowest first, when more than two seconds have passed") {
  RollCall call = call_of({ready, connecting, authenticating, waiting});
  call.set(2, authenticating, kStart + 1s);  // no news: its time goes on
  CHECK(call.line(200, kStart + 2s) == "llmlaunch: 1 waiting, 1 connecting, 1 authenticating, 1 ready");
  CHECK(call.line(200, kStart + 2001ms) ==
        "llmlaunch: 1 waiting, 1 connecting, 1 authenticating, 1 ready; waiting for 3 of 4: gpu02 connecting 2 s, "
        "gpu03 authenticating 2 s");
  call.set(1, authenticating, kStart + 3s);
  CHECK(call.line(200, kStart + 5900ms) ==
        "llmlaunch: 1 waiting, 2 authenticating, 1 ready; waiting for 3 of 4: gpu03 authenticating 6 s, gpu02 "
        "authenticating 3 s");
}

TEST_CASE("the line is no wider than the terminal") {
  const RollCall call = call_of({connecting, connecting, connecting, connecting});
  const TimePoint now = kStart + 12s;
  CHECK(call.line(200, now) ==
        "llmlaunch: 4 connecting; waiting for 4 of 4: gpu01 connecting 12 s, gpu02 connecting 12 s, gpu03 connecting "
        "12 s, gpu04 connecting 12 s");
  CHECK(call.line(100, now) ==
        "llmlaunch: 4 connecting; waiting for 4 of 4: gpu01 connecting 12 s, gpu02 connecting 12 s, …");
  CHECK(call.line(68, now) == "llmlaunch: waiting for 4 of 4: gpu01 connecting 12 s, …");
  CHECK(call.line(30, now) == "llmlaunch: waiting for 4 of 4…");
  CHECK(call.line(5, now) == "llml…");
  CHECK(call.line(1, now) == "…");
  CHECK(call.line(0, now).empty());
  for (std::size_t width = 0; width < 160; ++width) {
    std::size_t letters = 0;
    for (const char c : call.line(width, now)) letters += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
    CHECK(letters <= width);
  }
}

TEST_CASE("a wide letter in the line takes two columns, as on the terminal") {
  RollCall call({"\u5b66\u7fd2"}, kStart);
  call.set(0, connecting, kStart);
  const TimePoint now = kStart + 12s;
  const std::string whole = "llmlaunch: 1 connecting; waiting for 1 of 1: \u5b66\u7fd2 connecting 12 s";
  CHECK(call.line(65, now) == whole);
  CHECK(call.line(64, now) == "llmlaunch: waiting for 1 of 1: \u5b66\u7fd2 connecting 12 s");
  CHECK(call.line(35, now) == "llmlaunch: waiting for 1 of 1: \u5b66\u2026");
  CHECK(call.line(33, now) == "llmlaunch: waiting for 1 of 1: \u2026");
}

TEST_CASE("while a job stops those are named whose ranks still run") {
  RollCall call = call_of({running, exited, running});
  call.stopping(kStart + 60s);
  call.stopping(kStart + 61s);  // once
  CHECK(call.line(200, kStart + 62s) == "llmlaunch: stopping: 2 running, 1 exited");
  CHECK(call.line(200, kStart + 64s) ==
        "llmlaunch: stopping: 2 running, 1 exited; waiting for 2 of 3: gpu01 running 4 s, gpu03 running 4 s");
  CHECK(call.sentence(kStart + 65s) == "waiting for 2 of 3 hosts to stop: gpu[01,03] running (5 s)");
  call.set(0, exited, kStart + 65s);
  call.set(2, failed, kStart + 65s);
  CHECK(call.sentence(kStart + 70s).empty());
}

TEST_CASE("without a terminal a sentence names every host that is waited for, by what it is at") {
  RollCall call = call_of({connecting, ready, connecting, authenticating, waiting});
  call.set(3, checking, kStart + 3s);
  CHECK(call.sentence(kStart + 5s) ==
        "waiting for 4 of 5 hosts: gpu[01,03] connecting (5 s), gpu05 waiting (5 s), gpu04 in checks (2 s)");
  CHECK(call_of({connecting}).sentence(kStart + 5s) == "waiting for 1 of 1 host: gpu01 connecting (5 s)");
  CHECK(call_of({ready, ready}).sentence(kStart).empty());
}

TEST_CASE("the slowest host has its reason beside it, where there is room") {
  RollCall call = call_of({connecting, connecting, ready});
  call.set_reason(0, "connection reset by peer\nmore of it");
  call.set_reason(1, "refused");
  const TimePoint now = kStart + 3s;
  CHECK(call.line(200, now) ==
        "llmlaunch: 2 connecting, 1 ready; waiting for 2 of 3: gpu01 connecting 3 s (connection reset by peer), gpu02 "
        "connecting 3 s");
  CHECK(call.line(104, now) ==
        "llmlaunch: 2 connecting, 1 ready; waiting for 2 of 3: gpu01 connecting 3 s (connection reset by peer), …");
  CHECK(call.line(103, now) ==
        "llmlaunch: 2 connecting, 1 ready; waiting for 2 of 3: gpu01 connecting 3 s, gpu02 connecting 3 s");
  CHECK(call.sentence(now) == "waiting for 2 of 3 hosts: gpu[01-02] connecting (3 s; gpu01: connection reset by peer)");
  call.set_reason(0, "");
  call.set(1, ready, now);
  CHECK(call.sentence(now) == "waiting for 1 of 3 hosts: gpu01 connecting (3 s)");
  call.set_reason(0, "it said \x1b[2J");
  CHECK(call.sentence(now) == "waiting for 1 of 3 hosts: gpu01 connecting (3 s: it said \\x1b[2J)");
  for (std::size_t width = 0; width < 160; ++width) {
    std::size_t letters = 0;
    for (const char c : call.line(width, now)) letters += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
    CHECK(letters <= width);
  }
}

}  // namespace launcher_roll_call_test
