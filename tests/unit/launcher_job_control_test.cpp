// How people steer a job that runs: forwarded signals, pause and continue, stdin; and what hosts say before they are
// ready. Numbers for time, messages for hosts.
#include <csignal>

#include "launcher/job_state.hpp"
#include "tests/support/catch.hpp"

namespace launcher_job_control_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

LaunchPlan plan_of(std::size_t hosts, StdinTo stdin_to = StdinTo::none) {
  LaunchPlan plan;
  plan.job_id = "job-1";
  plan.process.stdin_to = stdin_to;
  for (std::size_t index = 0; index < hosts; ++index) {
    HostPlan host;
    host.name = "gpu0" + std::to_string(index + 1);
    host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
    host.ranks.push_back({Rank{plan.world_size++}, 0, {}});
    plan.hosts.push_back(std::move(host));
  }
  return plan;
}

std::string text_of(const agent::HeadMessage& message) {
  if (const auto* signal = std::get_if<agent::Signal>(&message)) return "signal " + std::to_string(signal->signal);
  if (const auto* pause = std::get_if<agent::Pause>(&message)) return pause->paused ? "pause" : "go on";
  if (std::holds_alternative<agent::Stop>(message)) return "stop";
  if (const auto* input = std::get_if<agent::Input>(&message))
    return "input " + std::to_string(input->offset) + "+" + std::to_string(input->data.size());
  if (std::holds_alternative<agent::InputEnd>(message)) return "end of input";
  return std::holds_alternative<agent::Ping>(message) ? "ping" : "other";
}

/// What a person and the hosts notice: "0: pause, 1: pause, say …, stop self".
std::string text_of(const Actions& actions) {
  std::string text;
  for (const Action& action : actions) {
    std::string one;
    if (const auto* send = std::get_if<SendMessage>(&action))
      one = std::to_string(send->host) + ": " + text_of(send->message);
    if (const auto* said = std::get_if<Say>(&action)) one = "say " + said->text;
    if (const auto* stop = std::get_if<StopSelf>(&action)) one = "stop " + (stop->at.empty() ? "self" : stop->at);
    if (!one.empty()) text += (text.empty() ? "" : ", ") + one;
  }
  return text;
}

struct Bench {
  explicit Bench(LaunchPlan p) : plan(std::move(p)), state(plan, 0, "/logs/job-1", now) { state.start(now); }
  Actions message(HostIndex host, agent::AgentMessage m) {
    state.on_bytes(host, now);
    return state.on_message(host, std::move(m), now);
  }
  void hello(HostIndex host) {
    state.on_opened(host, now);
    message(host, agent::Hello{});
  }
  void running() {
    for (HostIndex host = 0; host < plan.hosts.size(); ++host) hello(host);
    for (HostIndex host = 0; host < plan.hosts.size(); ++host) last = message(host, agent::Ready{40'000, threads});
    for (HostIndex host = 0; host < plan.hosts.size(); ++host)
      message(host, agent::Started{static_cast<std::uint32_t>(host), 1});
  }
  std::string signal(int number, const std::string& at = {}) { return text_of(state.on_signal(number, now, at)); }
  void exited(std::uint32_t rank) { message(rank, agent::Exited{rank, false, 0, false, false, 0}); }
  std::string tick(std::chrono::milliseconds passed) {
    now += passed;
    return text_of(state.on_tick(now));
  }

  TimePoint now{};
  LaunchPlan plan;
  JobState state;
  Actions last;
  std::uint32_t threads = 0;
};

}  // namespace

TEST_CASE("SIGUSR1, SIGUSR2 and the plan's signals go to the ranks that run, and stop nothing") {
  LaunchPlan plan = plan_of(2);
  plan.process.forward_signals = {SIGHUP};
  Bench job(std::move(plan));
  job.running();
  CHECK(job.signal(SIGUSR1) == "0: signal 10, 1: signal 10, say SIGUSR1 sent to 2 ranks");
  CHECK(job.signal(SIGUSR2) == "0: signal 12, 1: signal 12, say SIGUSR2 sent to 2 ranks");
  job.exited(0);
  CHECK(job.signal(SIGHUP) == "1: signal 1, say SIGHUP sent to 1 rank");
  CHECK(job.state.result().exit_status == 0);
  CHECK(job.signal(SIGTERM).starts_with("say caught SIGTERM"));
}

TEST_CASE("a signal for ranks that do not run yet is said to go to nobody") {
  Bench job(plan_of(1));
  job.hello(0);
  CHECK(job.signal(SIGUSR1) == "say SIGUSR1 goes to nobody: no rank runs");
}

TEST_CASE("a signal that comes to several machines at once reaches the ranks once") {
  Bench job(plan_of(1));
  job.running();
  CHECK(job.signal(SIGUSR1, "m1") == "0: signal 10, say SIGUSR1, caught on m1, sent to 1 rank");
  CHECK(job.signal(SIGUSR1).empty());
  CHECK(job.signal(SIGUSR1, "m2").empty());
  CHECK(job.signal(SIGUSR2, "m2") == "0: signal 12, say SIGUSR2, caught on m2, sent to 1 rank");  // another one
  CHECK(job.signal(SIGUSR1, "m1").starts_with("0: signal 10"));  // somebody has sent it twice
  job.now += 2s;
  CHECK(job.signal(SIGUSR1, "m2").starts_with("0: signal 10"));  // and later is again
  CHECK(job.signal(SIGUSR1, "m2").starts_with("0: signal 10"));
}

TEST_CASE("SIGTSTP on another machine stops the ranks, then that machine's llmlaunch, until that is continued") {
  Bench job(plan_of(2));
  job.running();
  CHECK(job.signal(SIGTSTP, "m1") == "0: pause, 1: pause");
  CHECK(job.signal(SIGTSTP, "m1").empty());
  job.message(0, agent::Paused{});
  CHECK(text_of(job.message(1, agent::Paused{})) == "stop m1");
  CHECK(job.tick(2h).empty());  // the head runs on, and no deadline passes
  CHECK(job.signal(SIGCONT).empty());
  CHECK(job.signal(SIGCONT, "m2").empty());
  CHECK(job.signal(SIGCONT, "m1").starts_with("0: go on, 1: go on, say continued after 7200.0 s"));
  job.tick(100ms);
  CHECK(job.state.result().exit_status == 0);
}

TEST_CASE("a job that was stopped on several machines goes on when all of them were continued") {
  Bench job(plan_of(1));
  job.running();
  job.signal(SIGTSTP);
  CHECK(job.signal(SIGTSTP, "m1").empty());
  CHECK(text_of(job.message(0, agent::Paused{})) == "stop m1, stop self");
  CHECK(job.signal(SIGTSTP, "m2") == "stop m2");  // its ranks stand already
  CHECK(text_of(job.state.on_continued(job.now)).empty());
  CHECK(job.signal(SIGCONT, "m2").empty());
  CHECK(job.signal(SIGCONT, "m1").starts_with("0: go on"));
}

TEST_CASE("SIGTSTP stops the ranks, then llmlaunch, and being continued takes both back") {
  Bench job(plan_of(2));
  job.running();
  CHECK(job.signal(SIGTSTP) == "0: pause, 1: pause");
  CHECK(job.signal(SIGTSTP).empty());
  CHECK(text_of(job.message(1, agent::Paused{})).empty());
  CHECK(text_of(job.message(0, agent::Paused{})) == "stop self");
  job.now += 2h;
  CHECK(text_of(job.state.on_continued(job.now)) == "0: go on, 1: go on, say continued after 7200.0 s");
  CHECK(job.tick(100ms) == "0: ping, 1: ping");
  CHECK(job.state.result().exit_status == 0);
  CHECK(job.signal(SIGTSTP) == "0: pause, 1: pause");  // and again
}

TEST_CASE("a host that does not answer a pause does not keep llmlaunch from stopping") {
  Bench job(plan_of(2));
  job.running();
  job.signal(SIGTSTP);
  job.message(0, agent::Paused{});
  CHECK(job.tick(1'900ms).empty());
  CHECK(job.tick(100ms) == "stop self");
}

TEST_CASE("a host that is lost while it is asked to pause does not keep llmlaunch from stopping") {
  Bench job(plan_of(2));
  job.running();
  job.signal(SIGTSTP);
  job.message(0, agent::Paused{});
  job.state.on_lost(1, make_error(Errc::closed, "gone"), job.now);
  CHECK(job.tick(0ms) == "stop self");
}

TEST_CASE("SIGCONT before llmlaunch has stopped lets everybody go on") {
  Bench job(plan_of(1));
  job.running();
  CHECK(job.signal(SIGCONT).empty());  // somebody continued what nobody had stopped
  job.signal(SIGTSTP);
  CHECK(job.signal(SIGCONT) == "0: go on, say continued after 0.0 s");
  CHECK(text_of(job.message(0, agent::Paused{})).empty());
}

TEST_CASE("Ctrl-C ends a pause and then the job") {
  Bench job(plan_of(1));
  job.running();
  job.signal(SIGTSTP);
  CHECK(job.signal(SIGINT) == "0: go on, say caught SIGINT: stopping 1 rank (once more: kill at once), 0: stop");
}

TEST_CASE("no deadline passes while llmlaunch stands, and its time limit counts only time in which ranks ran") {
  LaunchPlan plan = plan_of(2);
  plan.timeouts.run = 10s;
  Bench job(std::move(plan));
  job.hello(0);  // host 1 is still opening, and would be given up after 15 minutes
  CHECK(job.signal(SIGTSTP) == "0: pause");
  job.message(0, agent::Paused{});
  job.now += 5h;
  job.state.on_continued(job.now);
  job.tick(100ms);
  CHECK(job.state.result().exit_status == 0);
  job.tick(9s);
  CHECK(job.state.result().exit_status == 0);
  job.tick(1s);
  CHECK(job.state.result().exit_status == 124);
}

TEST_CASE("a long sleep of the head moves every deadline of its hosts") {
  Bench job(plan_of(1));
  job.hello(0);
  job.tick(59s);  // of 60 s to become ready; a tick that late is a sleep in itself
  job.tick(59s);
  CHECK(job.state.result().exit_status == 0);
  for (int i = 0; i < 61; ++i) job.tick(1s);
  CHECK(job.state.result().exit_status == 69);
}

TEST_CASE("a host with setup lines has time to name the one that takes too long") {
  LaunchPlan plan = plan_of(1);
  plan.hosts[0].setup = {"sleep 100"};
  Bench job(std::move(plan));
  job.hello(0);
  for (int i = 0; i < 61; ++i) job.tick(1s);
  CHECK(job.state.result().exit_status == 0);
  job.tick(1s);
  CHECK(job.state.result().exit_status == 69);
}

TEST_CASE("noise of a host is shown in one line before it is ready, and bounded") {
  Bench job(plan_of(1));
  job.hello(0);
  CHECK(text_of(job.message(0, agent::Noise{"Loading cuda\x1b[0m"})) == "say gpu01 said: Loading cuda\\x1b[0m");
  for (std::size_t i = 1; i < kMaxNoiseLines; ++i) job.message(0, agent::Noise{"x"});
  CHECK(job.state.result().exit_status == 0);
  job.message(0, agent::Noise{"x"});
  CHECK(to_string(*job.state.result().failure) ==
        "host gpu01 (node_rank 0, rank 0): its agent sent more than 1000 lines of noise\n"
        "   no rank was started on any host");
}

TEST_CASE("noise after the start breaks the protocol") {
  Bench job(plan_of(1));
  job.running();
  job.message(0, agent::Noise{"x"});
  CHECK(job.state.result().exit_status == 69);
}

TEST_CASE("threads that agents chose are said once, hosts of one number together") {
  Bench same(plan_of(2));
  same.threads = 8;
  same.running();
  CHECK(text_of(same.last) == "say OMP_NUM_THREADS, set nowhere, is the cores of each rank: 8 on every host");
  Bench other(plan_of(3));
  for (HostIndex host = 0; host < 3; ++host) other.hello(host);
  other.message(0, agent::Ready{1, 8});
  other.message(1, agent::Ready{1, 4});
  CHECK(text_of(other.message(2, agent::Ready{1, 8})) ==
        "say OMP_NUM_THREADS, set nowhere, is the cores of each rank: 8 on gpu[01,03], 4 on gpu02");
  Bench none(plan_of(1));
  none.running();
  CHECK(text_of(none.last).empty());
}

TEST_CASE("stdin goes to the hosts whose ranks read it, as far as the slowest has room") {
  Bench job(plan_of(2, StdinTo::all));
  CHECK(job.state.input_allowance() == 0);  // nobody runs yet
  job.running();
  CHECK(job.state.input_allowance() == 65'536);
  CHECK(text_of(job.state.on_input(Bytes(60'000))) == "0: input 0+60000, 1: input 0+60000");
  CHECK(job.state.input_allowance() == 5'536);
  job.message(0, agent::InputTaken{60'000});
  CHECK(job.state.input_allowance() == 5'536);
  job.message(1, agent::InputTaken{10'000});
  CHECK(job.state.input_allowance() == 15'536);
  job.message(1, agent::InputTaken{agent::kNobodyReads});
  CHECK(job.state.input_allowance() == 65'536);
  CHECK(text_of(job.state.on_input(Bytes(1))) == "0: input 60000+1");
  CHECK(text_of(job.state.on_input_end()) == "0: end of input");
  CHECK(job.state.input_allowance() == 0);
}

TEST_CASE("stdin for rank 0 goes to its host alone, and stops when that reads no more") {
  Bench job(plan_of(2, StdinTo::rank_0));
  job.running();
  CHECK(text_of(job.state.on_input(Bytes(7))) == "0: input 0+7");
  job.message(0, agent::InputTaken{agent::kNobodyReads});
  CHECK(job.state.input_allowance() == 0);
  Bench none(plan_of(1));
  none.running();
  CHECK(none.state.input_allowance() == 0);
}

TEST_CASE("a host that takes input which was never sent is lost") {
  Bench job(plan_of(1, StdinTo::all));
  job.running();
  job.state.on_input(Bytes(7));
  job.message(0, agent::InputTaken{8});
  CHECK(job.state.result().exit_status == 69);
}

}  // namespace launcher_job_control_test
