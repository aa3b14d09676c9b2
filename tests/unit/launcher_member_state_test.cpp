// A machine that calls in: every wait with its success, failure, time-out and cancel. Numbers for time.
#include "launcher/member_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"

namespace launcher_member_state_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using member::Action;
using member::Actions;
using member::Call;
using member::CloseAgent;
using member::FrameEdge;
using member::Leave;
using member::MemberState;
using member::SendToHead;
using member::StartAgent;
using member::ToAgent;
using member::WakeAt;
using namespace std::chrono_literals;

namespace {

LaunchPlan plan_of_a_machine() {
  LaunchPlan plan;
  plan.hosts.resize(2);
  plan.per_machine.emplace();
  plan.rendezvous_address = "10.0.0.1";
  plan.rendezvous_port = 29500;
  plan.timeouts.rendezvous = 60s;
  plan.timeouts.grace = 20s;
  plan.process.forward_signals = {SIGHUP, 40};
  return plan;
}

std::string text_of(const CallMessage& message) {
  if (const auto* signal = std::get_if<CallSignal>(&message)) return "signal " + std::to_string(signal->number);
  if (const auto* data = std::get_if<CallData>(&message)) return "data of " + std::to_string(data->data.size());
  if (const auto* failed = std::get_if<CallFailed>(&message)) return "failed: " + failed->what;
  return std::holds_alternative<CallStarted>(message) ? "started" : "other";
}

LaunchPlan plan_of_machine_1() {
  LaunchPlan plan = plan_of_a_machine();
  plan.per_machine->machine_rank = 1;
  return plan;
}

struct Bench {
  explicit Bench(LaunchPlan own = plan_of_machine_1()) : plan(std::move(own)) {}
  std::string text(const member::Actions& actions) {
    std::string all;
    for (const member::Action& action : actions) all += (all.empty() ? "" : ", ") + one(action);
    return all;
  }
  std::string one(const member::Action& action) {
    if (std::holds_alternative<Call>(action)) return "call";
    if (const auto* wake = std::get_if<WakeAt>(&action)) {
      wake_at = wake->at;
      const auto in = std::chrono::duration_cast<std::chrono::milliseconds>(wake->at - now).count();
      return wake->at == TimePoint::max() ? "sleep" : "wake in " + std::to_string(in);
    }
    if (const auto* send = std::get_if<SendToHead>(&action)) return "send " + text_of(send->message);
    if (const auto* start = std::get_if<StartAgent>(&action)) return "start agent of " + start->name;
    if (const auto* more = std::get_if<ToAgent>(&action)) {
      to_agent = more->bytes;
      return "to agent " + std::to_string(more->bytes.size());
    }
    if (std::holds_alternative<CloseAgent>(action)) return "close agent";
    if (std::holds_alternative<member::StopSelf>(action)) return "stop self";
    if (const auto* say = std::get_if<Say>(&action)) return "say " + say->text;
    left = std::get<Leave>(action);
    return "leave " + std::to_string(left->status);
  }

  std::string start() { return text(state.start(now)); }
  std::string message(const CallMessage& m) { return text(state.on_message(m, now)); }
  std::string no_wire(Errc code, const std::string& what) {
    return text(state.on_no_wire(make_error(code, what), now));
  }
  std::string signal(int number) { return text(state.on_signal(number, now)); }
  std::string wake() {
    now = wake_at;
    return text(state.on_time(now));
  }
  void join() {
    start();
    message(CallWelcome{1, "machine1", 8, 15});
    state.on_agent_started();
  }
  std::string failure() const { return left && left->failure ? to_string(*left->failure) : ""; }

  TimePoint now = TimePoint{} + 1h;
  TimePoint wake_at{};
  LaunchPlan plan;
  MemberState state{plan};
  std::optional<Leave> left;
  Bytes to_agent;
};

CallData data_of(std::size_t size) {
  return CallData{Bytes(size, std::byte{1})};
}

/// A frame of so many bytes behind its length.
CallData frame_of(std::uint8_t size) {
  Bytes bytes(4 + size);
  bytes[0] = std::byte{size};
  return CallData{bytes};
}

}  // namespace

TEST_CASE("machine 0 is called again with growing pauses") {
  Bench member;
  CHECK(member.start() == "wake in 60000, call");
  CHECK(member.no_wire(Errc::refused, "connection refused") == "wake in 100");
  CHECK(member.wake() == "wake in 59900, call");
  CHECK(member.no_wire(Errc::refused, "connection refused") == "wake in 200");
  for (const int pause : {400, 800, 1600, 2000, 2000}) {
    member.wake();
    CHECK(member.no_wire(Errc::refused, "connection refused").ends_with("wake in " + std::to_string(pause)));
  }
}

TEST_CASE("it is said that machine 0 is waited for, and not each time") {
  Bench member;
  member.start();
  member.now += 4s;
  CHECK(member.no_wire(Errc::refused, "connection refused") == "wake in 100");
  member.wake();
  member.now += 1s;
  CHECK(member.no_wire(Errc::refused, "connection refused") ==
        "say machine 1 waits for machine 0 at 10.0.0.1:29500: connection refused, wake in 200");
  member.wake();
  CHECK(member.no_wire(Errc::refused, "connection refused") == "wake in 400");
}

TEST_CASE("a time that comes early calls nobody") {
  Bench member;
  member.start();
  member.no_wire(Errc::refused, "no");
  CHECK(member.text(member.state.on_time(member.now)).empty());
}

TEST_CASE("machine 0 that does not answer in time is given up, with the last reason") {
  Bench member;
  member.start();
  member.now += 59'950ms;
  CHECK(member.no_wire(Errc::refused, "connection refused by 10.0.0.1:29500") == "leave 69");
  CHECK(member.failure() ==
        "machine 0 did not answer at 10.0.0.1:29500 within 60 s: connection refused by 10.0.0.1:29500\n"
        "   hint: start there: llmlaunch run --machine_rank 0 …, and let other machines reach TCP port 29500; "
        "llmlaunch.timeouts.rendezvous is how long it is waited for");
}

TEST_CASE("a call that is still being made at that time is given up, too") {
  Bench member;
  member.start();
  CHECK(member.wake() == "leave 69");
  CHECK(member.failure().starts_with("machine 0 did not answer at 10.0.0.1:29500 within 60 s\n"));
}

TEST_CASE("another token is final") {
  Bench member;
  member.start();
  CHECK(member.no_wire(Errc::unauthenticated, "the tokens differ") == "leave 69");
  CHECK(member.failure().starts_with("machine 0 at 10.0.0.1:29500 has another token than this machine\n"));
}

TEST_CASE("a refusal is final, and its kind makes the exit status") {
  for (const auto& [code, status] : {std::pair{Errc::invalid_config, "leave 78"}, {Errc::duplicate_rank, "leave 69"}}) {
    Bench member;
    member.start();
    CHECK(member.message(CallRefused{static_cast<std::uint32_t>(code), "another world", "the same words"}) == status);
    CHECK(member.failure() == "machine 0 at 10.0.0.1:29500: another world\n   hint: the same words");
  }
}

TEST_CASE("an answer that is none is called again") {
  Bench member;
  member.start();
  CHECK(member.message(CallStarted{}) == "wake in 100");
}

TEST_CASE("a signal before machine 0 has answered ends this machine at once, whatever it waits for") {
  for (const bool pausing : {false, true}) {
    Bench member;
    member.start();
    if (pausing) member.no_wire(Errc::refused, "no");
    CHECK(member.signal(SIGINT) == "leave 130");
    CHECK(member.failure() == "interrupted by SIGINT before machine 0 had answered");
    // What was on the way changes nothing.
    CHECK(member.message(CallWelcome{1, "machine1", 1, 1}).empty());
    CHECK(member.no_wire(Errc::canceled, "closed").empty());
    CHECK(member.wake().empty());
    CHECK(member.signal(SIGINT).empty());
  }
}

TEST_CASE("a welcome starts the agent, and nothing is waited for but the job") {
  Bench member;
  member.start();
  CHECK(member.message(CallWelcome{1, "machine1", 8, 15}) ==
        "sleep, say machine 1 of 2 has joined the job at 10.0.0.1:29500: ranks 8-15; their output and the logs are on "
        "machine 0, start agent of machine1");
  CHECK(member.text(member.state.on_agent_started()) == "send started");
  CHECK(member.message(data_of(7)) == "to agent 7");
}

TEST_CASE("an agent that does not start is told, and machine 0 has its time to end the job") {
  Bench member;
  member.start();
  member.message(CallWelcome{1, "machine1", 1, 1});
  const Error error = make_error(Errc::no_program, "no agent here");
  CHECK(member.text(member.state.on_agent_failed(error, member.now)) == "send failed: no agent here, wake in 30000");
  CHECK(member.message(CallEnd{69, "machine1: no agent here"}) == "leave 69");
  CHECK(member.failure() == "the job failed: machine1: no agent here\n   hint: machine 0 has the output and the logs");
}

TEST_CASE("an agent that ends unasked, and a machine 0 that says nothing of it, end this machine") {
  Bench member;
  member.join();
  CHECK(member.text(member.state.on_agent_ended(member.now)) == "send data of 0, wake in 30000");
  CHECK(member.message(data_of(9)) == "to agent 9");  // was on the way
  CHECK(member.wake() == "leave 69");
  CHECK(
      member.failure().starts_with("the agent of this machine ended, and machine 0 at 10.0.0.1:29500 says nothing\n"));
}

TEST_CASE("an agent that machine 0 needs no more ends, and the job goes on elsewhere for as long as it takes") {
  Bench member;
  member.join();
  CHECK(member.message(CallData{}) == "sleep, close agent");
  CHECK(member.text(member.state.on_agent_ended(member.now)) == "send data of 0");
  CHECK(member.message(CallEnd{0, ""}) == "say the job ended well, leave 0");
}

TEST_CASE("a machine 0 that is lost ends this machine, and so does one that says what is not its to say") {
  Bench one, other;
  one.join();
  CHECK(one.no_wire(Errc::closed, "the connection ended") == "leave 69");
  CHECK(one.failure().starts_with("machine 0 at 10.0.0.1:29500 was lost: the connection ended\n"));
  other.join();
  CHECK(other.message(CallStarted{}) == "leave 69");
  CHECK(other.failure().starts_with("machine 0 at 10.0.0.1:29500 was lost: it sent what is not its to say\n"));
}

TEST_CASE("an exit status that no process can have does not become 0") {
  Bench member;
  member.join();
  CHECK(member.message(CallEnd{256, "odd"}) == "leave 255");
}

TEST_CASE("the first signal asks machine 0 to stop the job, the second leaves it, and the ranks get no grace") {
  Bench member;
  member.join();
  member.message(frame_of(10));
  CHECK(member.signal(SIGTERM) ==
        "say caught SIGTERM: machine 0 stops the job (once more: leave it at once), send signal 15");
  member.now += kOneStop - 1ms;
  CHECK(member.signal(SIGTERM).empty());  // timeout signals its child and then its group: one stop
  member.now += 1ms;
  const std::string last = member.signal(SIGINT);
  CHECK(last.ends_with("leave 130"));
  CHECK(member.to_agent == agent::encode(agent::HeadMessage(agent::Stop{SIGKILL, 0})));
  CHECK(member.failure() == "interrupted by SIGINT");
  CHECK(member.no_wire(Errc::closed, "closed").empty());
}

TEST_CASE("a job that ends by the Ctrl-C of this machine is interrupted here, and one of another's is not") {
  for (const bool here : {true, false}) {
    Bench member;
    member.join();
    if (here) member.signal(SIGINT);
    CHECK(member.message(CallEnd{130, "interrupted by SIGINT"}) == "leave 130");
    CHECK((member.left->failure->code == Errc::interrupted) == here);
  }
}

TEST_CASE("no order is put into the middle of one of machine 0's") {
  Bench member;
  member.join();
  CallData cut = frame_of(10);
  cut.data.resize(9);
  member.message(cut);
  member.signal(SIGINT);
  member.now += kOneStop;
  CHECK(member.signal(SIGINT) == "leave 130");
}

TEST_CASE("where frames begin is known however they are cut") {
  const Bytes two = [] {
    Bytes bytes = frame_of(3).data;
    const Bytes more = frame_of(200).data;
    bytes.insert(bytes.end(), more.begin(), more.end());
    return bytes;
  }();
  for (std::size_t piece = 1; piece <= two.size(); ++piece) {
    FrameEdge edge;
    for (std::size_t at = 0; at < two.size(); at += piece) {
      const ByteView rest = ByteView(two).subspan(at);
      edge.feed(rest.first(std::min(piece, rest.size())));
      const std::size_t fed = std::min(at + piece, two.size());
      CHECK(edge.between_frames() == (fed == 7 || fed == two.size()));
    }
  }
}

TEST_CASE("signals for the ranks go to machine 0, and stop nothing") {
  Bench member;
  member.join();
  CHECK(member.signal(SIGUSR1) == "say SIGUSR1 goes to machine 0, and from there to all ranks, send signal 10");
  CHECK(member.signal(SIGHUP) == "say SIGHUP goes to machine 0, and from there to all ranks, send signal 1");
  CHECK(member.signal(SIGHUP) == "say SIGHUP goes to machine 0, and from there to all ranks, send signal 1");
  CHECK(member.signal(40) == "say signal 40 goes to machine 0, and from there to all ranks, send signal 40");
  CHECK_FALSE(member.left);
}

TEST_CASE("SIGTSTP lets all ranks stand, then this process, and being continued takes it back") {
  Bench member;
  member.join();
  CHECK(member.signal(SIGTSTP) == "wake in 3000, send signal 20");
  CHECK(member.signal(SIGTSTP).empty());
  CHECK(member.message(CallSignal{SIGTSTP}) == "stop self");
  CHECK(member.message(CallSignal{SIGTSTP}).empty());
  member.now += 2h;
  CHECK(member.text(member.state.on_continued(member.now)) == "sleep, send signal 18");
  CHECK(member.text(member.state.on_continued(member.now)).empty());
  CHECK(member.signal(SIGTSTP) == "wake in 3000, send signal 20");  // and again
}

TEST_CASE("a machine 0 that stands itself does not keep a member from stopping, and its answer may come late") {
  Bench member;
  member.join();
  member.signal(SIGTSTP);
  CHECK(member.wake() == "stop self");
  CHECK(member.text(member.state.on_continued(member.now)) == "sleep, send signal 18");
  CHECK(member.message(CallSignal{SIGTSTP}).empty());
}

TEST_CASE("SIGTSTP before the join stops this process alone, and the time in which it stands is not counted") {
  Bench member;
  member.start();
  member.no_wire(Errc::refused, "no");
  CHECK(member.signal(SIGTSTP) == "stop self");
  member.now += 2h;
  CHECK(member.text(member.state.on_continued(member.now)) == "wake in 100");
  CHECK(member.wake() == "wake in 59900, call");
}

TEST_CASE("a machine that names no place waits until machine 0 gives it one") {
  Bench member(plan_of_a_machine());
  CHECK(member.start() == "wake in 60000, call");
  CHECK(member.message(CallWait{2, 4}) ==
        "sleep, say called in at 10.0.0.1:29500, where 2 of 4 machines are; machine 0 gives out the places when all "
        "are there");
  member.now += 1h;  // machine 0 has a limit of its own
  CHECK(member.text(member.state.on_time(member.now)).empty());
  CHECK(member.message(CallWelcome{1, "machine1", 2, 3}) ==
        "sleep, say machine 1 of 2 has joined the job at 10.0.0.1:29500: ranks 2-3; their output and the logs are on "
        "machine 0, start agent of machine1");
}

TEST_CASE("a machine without a place is told by no number, and how the one that is called becomes machine 0") {
  Bench member(plan_of_a_machine());
  member.start();
  member.now += 5s;
  CHECK(member.no_wire(Errc::refused, "connection refused") ==
        "say this machine waits for machine 0 at 10.0.0.1:29500: connection refused, wake in 100");
  member.wake();
  member.now += 55s;
  CHECK(member.no_wire(Errc::refused, "connection refused") == "leave 69");
  CHECK(member.failure() ==
        "machine 0 did not answer at 10.0.0.1:29500 within 60 s: connection refused\n"
        "   hint: start the same command there; if it does not know that address as its own, with --rdzv-conf "
        "is_host=true or --machine_rank 0, and let other machines reach TCP port 29500; "
        "llmlaunch.timeouts.rendezvous is how long it is waited for");
}

TEST_CASE("a machine 0 that is lost while places are waited for is called again, for as long as at the start") {
  Bench member(plan_of_a_machine());
  member.start();
  member.message(CallWait{2, 4});
  member.now += 2h;
  CHECK(member.no_wire(Errc::closed, "the connection ended") ==
        "say machine 0 at 10.0.0.1:29500 was lost before all machines were there, and is called again: the connection "
        "ended, wake in 100");
  CHECK(member.state.between_calls());
  CHECK(member.wake() == "wake in 59900, call");
  CHECK_FALSE(member.state.between_calls());
  CHECK(member.no_wire(Errc::refused, "connection refused") == "wake in 200");
  member.wake();
  CHECK(member.message(CallWait{2, 4}).starts_with("sleep, say called in at"));
  CHECK(member.message(CallStarted{}).ends_with("called again: it sent what is not its to say, wake in 100"));
  member.now += 60s;
  CHECK(member.text(member.state.on_time(member.now)).starts_with("wake in 0, call"));
  CHECK(member.no_wire(Errc::refused, "connection refused") == "leave 69");
}

TEST_CASE("a job that ends before all were there ends who waits for a place") {
  Bench member(plan_of_a_machine());
  member.start();
  member.message(CallWait{2, 4});
  CHECK(member.message(CallEnd{69, "after 60 s 2 of 4 machines are there"}) == "leave 69");
  CHECK(member.failure().starts_with("the job failed: after 60 s 2 of 4 machines are there\n"));
}

TEST_CASE("a signal while a place is waited for ends this machine alone, and those for ranks go to nobody") {
  Bench member(plan_of_a_machine());
  member.start();
  member.message(CallWait{2, 4});
  CHECK(member.signal(SIGUSR1) == "say SIGUSR1 goes to nobody: not all machines are there");
  CHECK(member.signal(SIGTSTP) == "stop self");
  CHECK(member.text(member.state.on_continued(member.now)) == "sleep");
  CHECK(member.signal(SIGTERM) == "leave 143");
  CHECK(member.failure() == "interrupted by SIGTERM before all machines were there");
  CHECK(member.message(CallWelcome{1, "machine1", 2, 3}).empty());
}

TEST_CASE("a machine that names its place is not made to wait for one") {
  Bench member;
  member.start();
  CHECK(member.message(CallWait{2, 4}) == "wake in 100");
}

TEST_CASE("signals for the ranks go to nobody before machine 0 has answered") {
  Bench member;
  member.start();
  CHECK(member.signal(SIGUSR1) == "say SIGUSR1 goes to nobody: machine 0 has not answered");
}

}  // namespace launcher_member_state_test
