// The policy of exec: each host starts as soon as it is ready, and what becomes of it is nobody else's concern.
#include <csignal>

#include "launcher/exec_story.hpp"
#include "launcher/job_state.hpp"
#include "launcher/roll_call.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/job_bench.hpp"

namespace launcher_job_each_host_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

LaunchPlan plan_of(std::size_t hosts) {
  LaunchPlan plan = testing::plan_of(hosts, 1);
  plan.policy = StartPolicy::each_host;
  return plan;
}

// Hosts of exec: no port is wanted of them, and one rank is all that they have.
struct Bench : testing::Bench {
  explicit Bench(LaunchPlan p) : testing::Bench(std::move(p), 0, "") {}

  void ready(HostIndex host) {
    take(state.on_opened(host, now));
    message(host, agent::Hello{agent::kProtocolVersion, "node", 100, 8});
    message(host, agent::Ready{0});
  }
  void started(HostIndex host) {
    ready(host);
    message(host, agent::Started{static_cast<std::uint32_t>(host), 4000});
  }
  void exited(HostIndex host, int value, bool signaled = false, bool stopped = false) {
    const auto rank = static_cast<std::uint32_t>(host);
    message(host, agent::Exited{rank, signaled, value, false, stopped, 0});
    message(host, agent::OutputEnd{rank, agent::Stream::out});
    message(host, agent::OutputEnd{rank, agent::Stream::err});
    message(host, agent::Done{});
  }
  void tick(std::chrono::milliseconds passed) {
    for (; passed > 0ms; passed -= 1s) {  // a longer step would be the head's own sleep
      now += 1s;
      for (HostIndex host = 0; host < plan.hosts.size(); ++host) state.on_bytes(host, now);
      take(state.on_tick(now));
    }
  }
  template <class T>
  std::vector<HostIndex> hosts_of(const Actions& actions) const {
    std::vector<HostIndex> found;
    for (const Action& action : actions)
      if (const T* one = std::get_if<T>(&action)) found.push_back(one->host);
    return found;
  }
  std::vector<HostIndex> stops() const {
    std::vector<HostIndex> found;
    for (const Action& action : all)
      if (const auto* send = std::get_if<SendMessage>(&action))
        if (std::holds_alternative<agent::Stop>(send->message)) found.push_back(send->host);
    return found;
  }
};

using Hosts = std::vector<HostIndex>;

}  // namespace

TEST_CASE("a host gets Go as soon as it is ready, and its failure stops nobody") {
  Bench job(plan_of(3));
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1, 2});
  job.ready(2);
  CHECK(job.hosts_of<SendGo>(job.last) == Hosts{2});
  job.message(2, agent::Started{2, 4000});
  job.exited(2, 3);
  CHECK_FALSE(job.state.finished());
  job.take(job.state.on_open_failed(0, make_error(Errc::refused, "connection refused", {}, "start sshd there"),
                                    OpenStep::authenticating, job.now));
  CHECK_FALSE(job.state.finished());
  job.started(1);
  job.exited(1, 0);
  CHECK(job.state.finished());
  CHECK(job.stops().empty());
  CHECK(job.status() == 69);
  CHECK(job.story() ==
        "2 of 3 hosts failed\n"
        "   unreachable: gpu01: connection refused\n"
        "      hint: start sshd there\n"
        "   exit 3: gpu03");
}

TEST_CASE("at most so many hosts are connecting or running, and the next begins when one is over") {
  LaunchPlan plan = plan_of(4);
  plan.hosts_at_once = 2;
  Bench job(std::move(plan));
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1});
  job.started(0);
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1});
  job.exited(0, 0);
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1, 2});
  job.started(1);
  job.take(job.state.on_lost(1, make_error(Errc::closed, "the connection ended"), job.now));
  CHECK(job.hosts_of<ReopenHost>(job.last) == Hosts{1});
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1, 2});  // it may come back
  job.take(job.state.on_not_rejoined(1, make_error(Errc::closed, "its agent is gone"), job.now));
  CHECK(job.hosts_of<OpenHost>(job.all) == Hosts{0, 1, 2, 3});
  job.take(job.state.on_open_failed(2, make_error(Errc::refused, "no"), OpenStep::host_key, job.now));
  job.started(3);
  job.exited(3, 0);
  CHECK(job.state.finished());
  CHECK(job.story() ==
        "2 of 4 hosts failed\n   lost: gpu02: connection lost: the connection ended; connected again: its agent is "
        "gone\n   unreachable: gpu03: no");
}

TEST_CASE("a command that takes too long is stopped on its host alone") {
  LaunchPlan plan = plan_of(2);
  plan.host_timeout = 30s;
  plan.timeouts.grace = 2s;
  Bench job(std::move(plan));
  job.started(0);
  job.tick(10s);
  job.started(1);
  job.tick(19s);
  CHECK(job.stops().empty());
  job.tick(1s);
  CHECK(job.stops() == Hosts{0});
  job.exited(0, SIGTERM, true, true);
  job.exited(1, 0);
  CHECK(job.state.finished());
  CHECK(job.status() == 124);
  CHECK(job.story() == "1 of 2 hosts failed\n   timed out: gpu01: no end within 30 s");
  CHECK(job.state.result().hosts[0].run == 30s);
}

TEST_CASE("a host that does not stop in time is given up, and said to be so") {
  LaunchPlan plan = plan_of(2);
  plan.host_timeout = 5s;
  plan.timeouts.grace = 1s;
  Bench job(std::move(plan));
  job.started(0);
  job.started(1);
  job.exited(1, 0);
  for (int i = 0; i < 12; ++i) job.tick(1s);
  CHECK(job.state.finished());
  CHECK(job.story() == "1 of 2 hosts failed\n   timed out: gpu01: it did not stop its command in time");
}

TEST_CASE("a signal stops every host and tells who had ended") {
  LaunchPlan plan = plan_of(4);
  plan.hosts_at_once = 3;
  Bench job(std::move(plan));
  job.started(0);
  job.exited(0, 0);
  job.started(1);
  job.started(2);
  job.exited(2, 7);
  job.take(job.state.on_signal(SIGINT, job.now));
  CHECK(std::get<Say>(job.last.front()).text == "caught SIGINT: stopping 1 command (once more: kill at once)");
  CHECK(job.stops() == Hosts{1});
  CHECK(job.hosts_of<CloseHost>(job.last) == Hosts{3});
  job.exited(1, SIGTERM, true, true);
  CHECK(job.state.finished());
  CHECK(job.status() == 130);
  CHECK(job.story() ==
        "interrupted by SIGINT: 2 of 4 hosts had ended\n"
        "   exit 0: gpu01\n"
        "   stopped: gpu02\n"
        "   not started: gpu04\n"
        "   exit 7: gpu03");
}

TEST_CASE("the reader of the output that went away is the end, without a word") {
  Bench job(plan_of(1));
  job.started(0);
  job.take(job.state.on_signal(SIGPIPE, job.now));
  for (const Action& action : job.last) CHECK_FALSE(std::holds_alternative<Say>(action));
  CHECK(job.stops() == Hosts{0});
  job.exited(0, SIGTERM, true, true);
  CHECK(job.status() == 141);
}

TEST_CASE("a command that could not be started ends its host and no other") {
  Bench job(plan_of(2));
  job.ready(0);
  job.message(0, agent::Failed{static_cast<std::int32_t>(Errc::out_of_resources), 0, "fork: no processes left", ""});
  CHECK(job.stops() == Hosts{0});
  job.message(0, agent::Done{});
  job.ready(1);
  job.message(1, agent::Failed{static_cast<std::int32_t>(Errc::no_program), -1, "no program", "x"});
  // Before Go it would be a failure of the start; after it, the host is lost.
  CHECK(job.state.finished());
  CHECK(job.story() ==
        "2 of 2 hosts failed\n"
        "   cannot start: gpu01: fork: no processes left\n"
        "   lost: gpu02: no program\n"
        "      hint: x");
}

TEST_CASE("the worst status wins: unreachable, then time, then the highest of the commands") {
  const auto end = [](HostEnd::Kind kind, int value, std::optional<Error> failure = {}) {
    HostEnd made;
    made.host = "n1";
    made.kind = kind;
    made.value = value;
    made.failure = std::move(failure);
    return made;
  };
  const HostEnd good = end(HostEnd::Kind::exited, 0), three = end(HostEnd::Kind::exited, 3);
  const HostEnd killed = end(HostEnd::Kind::signaled, SIGKILL), late = end(HostEnd::Kind::timed_out, 0);
  const HostEnd away = end(HostEnd::Kind::failed, 0, make_error(Errc::unreachable, "no route"));
  const HostEnd none = end(HostEnd::Kind::failed, 0, make_error(Errc::no_program, "no program"));
  const HostEnd denied = end(HostEnd::Kind::failed, 0, make_error(Errc::not_executable, "denied"));
  const HostEnd defect = end(HostEnd::Kind::failed, 0, make_error(Errc::internal, "a defect"));
  struct Row {
    std::vector<HostEnd> hosts;
    int status;
  };
  const std::vector<Row> rows{{{}, 0},
                              {{good, good}, 0},
                              {{good, three, good}, 3},
                              {{three, killed}, 137},
                              {{killed, late, three}, 124},
                              {{late, away, killed}, 69},
                              {{none, three}, 127},
                              {{denied}, 126},
                              {{none, late}, 124},
                              {{defect, away}, 70},
                              {{end(HostEnd::Kind::lost, 0, make_error(Errc::closed, "gone")), late}, 69}};
  for (const auto& row : rows) CHECK(exec_status(row.hosts) == row.status);
}

TEST_CASE("a host that was ready and whose program did not start in time is not called unreachable") {
  HostEnd end;
  end.host = "n1";
  end.kind = HostEnd::Kind::failed;
  end.failure = make_error(Errc::timed_out, "exec of '/nfs/prog' did not end within 60 s");
  CHECK(to_string(*exec_failure({end})) ==
        "1 of 1 host failed\n   unreachable: n1: exec of '/nfs/prog' did not end within 60 s");
  end.connect = std::chrono::milliseconds(20);
  CHECK(to_string(*exec_failure({end})) ==
        "1 of 1 host failed\n   cannot start: n1: exec of '/nfs/prog' did not end within 60 s");
}

TEST_CASE("hosts that fail for one reason are one line, and of many reasons some are told") {
  std::vector<HostEnd> hosts;
  for (int i = 1; i <= 30; ++i) {
    HostEnd end;
    end.host = "n" + std::to_string(i);
    end.kind = HostEnd::Kind::failed;
    end.failure = make_error(Errc::unreachable, "refused", "host n" + std::to_string(i), "start sshd");
    hosts.push_back(end);
  }
  CHECK(to_string(*exec_failure(hosts)) ==
        "30 of 30 hosts failed\n   unreachable: n[1-30]: refused\n      hint: start sshd");
  for (int i = 0; i < 30; ++i) hosts[static_cast<std::size_t>(i)].failure->what = "reason " + std::to_string(i);
  const std::string text = to_string(*exec_failure(hosts));
  CHECK(std::count(text.begin(), text.end(), '\n') == 21);  // 19 reasons, one hint that they share, the rest
  CHECK(
      text.ends_with("\n   unreachable: n19: reason 18\n      hint: start sshd\n   other reasons, 11 hosts: n[20-30]"));
}

TEST_CASE("the table has a line for each host in their order, with a dash for what did not happen") {
  const auto end = [](const char* host, HostEnd::Kind kind, int value, std::chrono::milliseconds connect,
                      std::chrono::milliseconds run) {
    HostEnd made;
    made.host = host;
    made.kind = kind;
    made.value = value;
    made.connect = connect;
    made.run = run;
    return made;
  };
  HostEnd away = end("gpu03", HostEnd::Kind::failed, 0, 0ms, 0ms);
  away.failure = make_error(Errc::unreachable, "no route");
  CHECK(exec_table({end("gpu10", HostEnd::Kind::exited, 0, 210ms, 1300ms),
                    end("gpu2", HostEnd::Kind::exited, 3, 95'004ms, 0ms), away,
                    end("gpu04", HostEnd::Kind::signaled, SIGKILL, 1ms, 12'345'670ms),
                    end("gpu05", HostEnd::Kind::timed_out, 0, 90ms, 60s),
                    end("gpu06", HostEnd::Kind::not_started, 0, 90ms, 0ms)}) ==
        "host   end          status  connect s  run s\n"
        "gpu10  exit 0            0       0.21   1.30\n"
        "gpu2   exit 3            3      95.00   0.00\n"
        "gpu03  unreachable      69          -      -\n"
        "gpu04  SIGKILL         137       0.00  12345.67\n"
        "gpu05  timed out       124       0.09  60.00\n"
        "gpu06  not started      69       0.09      -\n");
  CHECK(exec_table({}) == "host  end  status  connect s  run s\n");
}

TEST_CASE("what each host did is in the result") {
  Bench job(plan_of(2));
  job.now += 1s;
  job.started(0);
  job.now += 2s;
  job.exited(0, SIGSEGV, true);
  job.take(job.state.on_open_failed(1, make_error(Errc::refused, "no"), OpenStep::host_key, job.now));
  const JobResult result = job.state.result();
  REQUIRE(result.hosts.size() == 2);
  CHECK(result.hosts[0].kind == HostEnd::Kind::signaled);
  CHECK(result.hosts[0].value == SIGSEGV);
  CHECK(result.hosts[0].connect == 1s);
  CHECK(result.hosts[0].run == 2s);
  CHECK(result.hosts[1].kind == HostEnd::Kind::failed);
  CHECK(result.failure->code == Errc::refused);
  CHECK(to_string(*result.failure) == "2 of 2 hosts failed\n   unreachable: gpu02: no\n   SIGSEGV: gpu01");
}

TEST_CASE("the time of a command that has ended does not change while llmlaunch stands") {
  Bench job(plan_of(2));
  job.started(0);
  job.started(1);
  job.now += 2s;
  job.exited(0, 0);
  job.take(job.state.on_signal(SIGTSTP, job.now));
  job.now += 1h;
  job.take(job.state.on_continued(job.now));
  job.now += 3s;
  job.exited(1, 0);
  CHECK(job.state.result().hosts[0].run == 2s);
  CHECK(job.state.result().hosts[1].run == 5s);
}

TEST_CASE("who is waited for is said: hosts that have not begun, or with gathered output have not ended") {
  for (const bool gathered : {false, true}) {
    const TimePoint begin{};
    RollCall roll_call({"gpu01", "gpu02", "gpu03"}, begin);
    if (gathered) roll_call.until_ended();
    roll_call.set(0, HostStage::exited, begin);
    roll_call.set(1, HostStage::running, begin);
    roll_call.set(2, HostStage::connecting, begin);
    CHECK(roll_call.sentence(begin + 5s) ==
          (gathered ? "waiting for 2 of 3 hosts: gpu02 running (5 s), gpu03 connecting (5 s)"
                    : "waiting for 1 of 3 hosts: gpu03 connecting (5 s)"));
  }
  Bench job(plan_of(1));
  job.started(0);
  job.tick(kRollCallAfter);
  CHECK(std::any_of(job.all.begin(), job.all.end(),
                    [](const Action& action) { return std::holds_alternative<CallRoll>(action); }));
}

}  // namespace launcher_job_each_host_test
