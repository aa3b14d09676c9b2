// The agent's decisions, without a process: events and times in, actions out.
#include "launcher/agent/agent_state.hpp"

#include <csignal>

#include "tests/support/catch.hpp"

namespace launcher_agent_state_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using std::chrono::milliseconds;

namespace {

const TimePoint kStart{};
TimePoint at(int ms) {
  return kStart + milliseconds(ms);
}

// Actions as one line of text, so that a test compares all of them and their order.
std::string text_of(const AgentMessage& message) {
  struct Visitor {
    std::string operator()(const Hello&) { return "Hello"; }
    std::string operator()(const NeedFile& m) { return "NeedFile " + std::to_string(m.index); }
    std::string operator()(const Ready& m) {
      return "Ready " + std::to_string(m.free_port) +
             (m.omp_threads == 0 ? "" : " with " + std::to_string(m.omp_threads) + " threads");
    }
    std::string operator()(const Failed& m) { return "Failed " + std::to_string(m.rank) + " " + m.what; }
    std::string operator()(const Started& m) { return "Started " + std::to_string(m.rank); }
    std::string operator()(const Output& m) {
      return "Output " + std::to_string(m.rank) + " " + std::to_string(m.data.size());
    }
    std::string operator()(const OutputEnd& m) { return "OutputEnd " + std::to_string(m.rank); }
    std::string operator()(const Exited& m) {
      return "Exited " + std::to_string(m.rank) + " " + (m.signaled ? "signal " : "") + std::to_string(m.value) +
             (m.stopped ? " stopped" : "");
    }
    std::string operator()(const Done&) { return "Done"; }
    std::string operator()(const Noise& m) { return "Noise " + m.text; }
    std::string operator()(const InputTaken& m) { return "InputTaken " + std::to_string(m.bytes); }
    std::string operator()(const Paused&) { return "Paused"; }
    std::string operator()(const Ping&) { return "Ping"; }
    std::string operator()(const Resumed& m) { return "Resumed " + std::to_string(m.orders); }
    std::string operator()(const Taken& m) { return "Taken " + std::to_string(m.orders); }
    std::string operator()(const CarriedOpen& m) { return "CarriedOpen " + std::to_string(m.id); }
    std::string operator()(const CarriedData& m) { return "CarriedData " + std::to_string(m.id); }
    std::string operator()(const CarriedEnd& m) { return "CarriedEnd " + std::to_string(m.id); }
    std::string operator()(const CarriedTaken& m) { return "CarriedTaken " + std::to_string(m.id); }
    std::string operator()(const CarriedReset& m) { return "CarriedReset " + std::to_string(m.id); }
  };
  return std::visit(Visitor{}, message);
}

std::string text_of(const Actions& actions) {
  struct Visitor {
    std::string operator()(const SendMessage& a) { return text_of(a.message); }
    std::string operator()(const CheckHost&) { return "check"; }
    std::string operator()(const WriteChunk& a) { return "write " + std::to_string(a.chunk.index); }
    std::string operator()(const StartRanks&) { return "start"; }
    std::string operator()(const AbandonStart& a) { return "abandon " + std::to_string(a.index); }
    std::string operator()(const SignalMain& a) {
      return "main " + std::to_string(a.index) + " " + std::to_string(a.signal);
    }
    std::string operator()(const SignalGroup& a) {
      return "group " + std::to_string(a.index) + " " + std::to_string(a.signal);
    }
    std::string operator()(const SignalDescendants& a) { return "all " + std::to_string(a.signal); }
    std::string operator()(const TakeInput& a) { return "input " + std::to_string(a.input.data.size()); }
    std::string operator()(const EndInput&) { return "end of input"; }
    std::string operator()(const CloseOutputs&) { return "close"; }
    std::string operator()(const FindSurvivors&) { return "survivors"; }
    std::string operator()(const Listen&) { return "listen"; }
    std::string operator()(const Attach& a) { return "attach " + a.resume.name; }
    std::string operator()(const Confirm& a) { return "confirm " + std::to_string(a.state.outputs); }
    std::string operator()(const Carry&) { return "carry"; }
    std::string operator()(const Quit& a) { return "quit " + std::to_string(a.status) + (a.flush ? " flush" : ""); }
  };
  std::string text;
  for (const Action& action : actions) text += (text.empty() ? "" : ", ") + std::visit(Visitor{}, action);
  return text;
}

Prepare prepare_of(std::uint32_t ranks) {
  Prepare prepare;
  prepare.grace_ms = 1'000;
  prepare.head_timeout_ms = 9'000;
  prepare.window_bytes = 100;
  for (std::uint32_t i = 0; i < ranks; ++i) prepare.ranks.push_back({10 + i, {}});
  return prepare;
}

AgentState running(std::uint32_t ranks) {
  AgentState state(kStart);
  state.on_message(prepare_of(ranks), at(0));
  state.on_checked({}, 4711);
  state.on_message(Go{}, at(0));
  for (std::uint32_t i = 0; i < ranks; ++i) {
    state.on_forked(i, "/bin/prog", at(0));
    state.on_started(i, 1000 + i);
  }
  return state;
}

void end_outputs(AgentState& state, std::uint32_t ranks) {
  for (std::uint32_t i = 0; i < ranks; ++i) {
    state.on_output_end(i, Stream::out);
    state.on_output_end(i, Stream::err);
  }
}

const MainExit kExitZero{};

}  // namespace

TEST_CASE("a job goes from Prepare to Done") {
  AgentState state(kStart);
  CHECK(text_of(state.on_message(prepare_of(1), at(0))) == "check");
  CHECK(text_of(state.on_checked({}, 4711)) == "Ready 4711");
  CHECK(text_of(state.on_message(Go{}, at(0))) == "start");
  state.on_forked(0, "/bin/prog", at(0));
  CHECK(text_of(state.on_started(0, 77)) == "Started 10");
  CHECK(text_of(state.on_output(0, Stream::out, Bytes(5))) == "Output 10 5");
  CHECK(text_of(state.on_main_exit(0, {false, 3, false, 1}, at(1))) ==
        "Exited 10 3, group 0 15, group 0 18, all 15, all 18");
  CHECK(text_of(state.on_nobody_left()) == "close");
  CHECK(text_of(state.on_output_end(0, Stream::out)) == "OutputEnd 10");
  CHECK(text_of(state.on_output_end(0, Stream::err)) == "OutputEnd 10, Done, quit 0 flush");
}

TEST_CASE("Ready waits for every file that was missing") {
  AgentState state(kStart);
  Prepare prepare = prepare_of(1);
  prepare.files.resize(3);
  state.on_message(prepare, at(0));
  CHECK(text_of(state.on_checked({0, 2}, 1)) == "NeedFile 0, NeedFile 2");
  CHECK(text_of(state.on_message(FileChunk{0, true, {}}, at(1))) == "write 0");
  CHECK(text_of(state.on_file_done(0)) == "");
  CHECK(text_of(state.on_message(FileChunk{2, true, {}}, at(1))) == "write 2");
  CHECK(text_of(state.on_file_done(2)) == "Ready 1");
}

TEST_CASE("Ready waits for the outcome of the probe, whichever comes first") {
  Prepare prepare = prepare_of(1);
  prepare.ways.addresses = {"10.0.0.1"};
  HeadReach reach;
  reach.way = 0;
  AgentState slow(kStart);
  slow.on_message(prepare, at(0));
  CHECK(text_of(slow.on_checked({}, 1)) == "");
  CHECK(text_of(slow.on_reached(reach)) == "Ready 1");
  CHECK(text_of(slow.on_reached(reach)) == "");

  AgentState quick(kStart);
  quick.on_message(prepare, at(0));
  CHECK(text_of(quick.on_reached(reach)) == "");
  const Actions actions = quick.on_checked({}, 1);
  REQUIRE(text_of(actions) == "Ready 1");
  CHECK(std::get<Ready>(std::get<SendMessage>(actions[0]).message).reach.way == 0);

  AgentState files(kStart);
  prepare.files.resize(1);
  files.on_message(prepare, at(0));
  files.on_checked({0}, 1);
  CHECK(text_of(files.on_reached(reach)) == "");
  CHECK(text_of(files.on_file_done(0)) == "Ready 1");
}

TEST_CASE("what is carried: only where it was asked for, confirmed with credit, and Done waits for it") {
  AgentState never = running(1);
  CHECK(text_of(never.on_message(CarriedEnd{0}, at(1))).find("Failed -1") == 0);

  Prepare prepare = prepare_of(1);
  prepare.ways.carry = true;
  AgentState state(kStart);
  state.on_message(prepare, at(0));
  state.on_checked({}, 1);
  CHECK(text_of(state.on_reached({})) == "Ready 1");
  state.on_message(Go{}, at(0));
  state.on_forked(0, "/bin/prog", at(0));
  state.on_started(0, 1000);
  CHECK(text_of(state.on_message(CarriedData{0, Bytes(3)}, at(1))) == "carry");
  CHECK(text_of(state.on_carried({CarriedOpen{0}})) == "CarriedOpen 0");
  CHECK(text_of(state.on_carried({CarriedTaken{0, 3}})) == "Taken 2, CarriedTaken 0");
  for (int i = 0; i < 64; ++i) state.on_message(CarriedData{0, Bytes(1)}, at(1));
  CHECK(text_of(state.on_carried({})) == "Taken 66");

  state.on_main_exit(0, kExitZero, at(2));
  CHECK(text_of(state.on_nobody_left()) == "close");
  end_outputs(state, 1);
  CHECK(text_of(state.on_carrying(true)) == "");
  CHECK(text_of(state.on_carried({CarriedEnd{0}})) == "CarriedEnd 0");
  CHECK(text_of(state.on_carrying(false)) == "Done, quit 0 flush");
}

TEST_CASE("a file that was not asked for, or is whole already, is refused") {
  for (const std::uint32_t index : {0u, 1u, 7u}) {
    AgentState state(kStart);
    Prepare prepare = prepare_of(1);
    prepare.files.resize(3);
    state.on_message(prepare, at(0));
    state.on_checked({0, 2}, 1);
    state.on_file_done(0);
    CHECK(text_of(state.on_message(FileChunk{index, true, {}}, at(1))) ==
          "Failed -1 the head sent a FileChunk that was not asked for, quit 69 flush");
  }
}

TEST_CASE("a host that cannot run the job says so, ignores what was on its way, and ends on Stop") {
  AgentState state(kStart);
  state.on_message(prepare_of(1), at(0));
  CHECK(text_of(state.on_failed(make_error(Errc::no_program, "no program 'x'"))) == "Failed -1 no program 'x'");
  CHECK(text_of(state.on_message(Go{}, at(0))) == "");
  CHECK(text_of(state.on_message(Stop{}, at(0))) == "Done, quit 0 flush");
  CHECK(text_of(state.on_message(Stop{}, at(0))) == "");
}

TEST_CASE("errno values reach the head as the condition they stand for") {
  const std::vector<std::pair<int, Errc>> rows = {{ENOMEM, Errc::out_of_resources},
                                                  {EAGAIN, Errc::out_of_resources},
                                                  {ENOSPC, Errc::out_of_resources},
                                                  {EMFILE, Errc::out_of_resources},
                                                  {EACCES, Errc::io}};
  for (const auto& [number, code] : rows) {
    AgentState state = running(1);
    const Actions actions = state.on_start_failed(0, system_error(number, "fork"));
    const auto& failed = std::get<Failed>(std::get<SendMessage>(actions.at(0)).message);
    CHECK(failed.code == static_cast<int>(code));
    CHECK(failed.rank == 10);
  }
}

TEST_CASE("a job none of whose ranks could be started is done when told that nobody is left") {
  AgentState state(kStart);
  state.on_message(prepare_of(2), at(0));
  state.on_checked({}, 1);
  state.on_message(Go{}, at(0));
  const Error error = make_error(Errc::no_program, "exec");
  CHECK(text_of(state.on_start_failed(0, error)) == "Failed 10 exec");
  CHECK(text_of(state.on_nobody_left()) == "");  // rank 11 is still to come
  CHECK(text_of(state.on_start_failed(1, error)) == "Failed 11 exec");
  CHECK(text_of(state.on_nobody_left()) == "close, Done, quit 0 flush");
}

TEST_CASE("an exec that does not end in its time is given up, killed and told by its program's name") {
  AgentState state(kStart);
  Prepare prepare = prepare_of(2);
  prepare.head_timeout_ms = 0;
  prepare.settings.start_timeout_ms = 2'500;
  state.on_message(prepare, at(0));
  state.on_checked({}, 1);
  state.on_message(Go{}, at(0));
  state.on_forked(0, "/bin/prog", at(0));
  state.on_forked(1, "/nfs/prog", at(100));
  CHECK(text_of(state.on_started(0, 77)) == "Started 10");
  CHECK(text_of(state.on_tick(at(2'599))) == "");
  CHECK(state.next_tick() == at(2'600));
  const Actions actions = state.on_tick(at(2'600));
  CHECK(text_of(actions) == "abandon 1, group 1 9, Failed 11 exec of '/nfs/prog' did not end within 2.5 s");
  const auto& failed = std::get<Failed>(std::get<SendMessage>(actions.at(2)).message);
  CHECK(failed.code == static_cast<int>(Errc::timed_out));
  CHECK(
      failed.hint ==
      "the file system that it lies on, or that its interpreter or loader lies on, does not answer; `stat` on the host "
      "hangs as well then. llmlaunch.timeouts.start is how long an exec may take");
  // Not every wait of the kernel ends by the first SIGKILL.
  CHECK(text_of(state.on_tick(at(2'650))) == "group 1 9");
  state.on_group_gone(1);
  CHECK(text_of(state.on_tick(at(2'700))) == "");
  CHECK(text_of(state.on_main_exit(0, kExitZero, at(3'000))) == "Exited 10 0, group 0 15, group 0 18, all 15, all 18");
}

TEST_CASE("a Stop reaches a rank that is still on its way to its program") {
  AgentState state(kStart);
  state.on_message(prepare_of(1), at(0));
  state.on_checked({}, 1);
  state.on_message(Go{}, at(0));
  state.on_forked(0, "/nfs/prog", at(0));
  CHECK(text_of(state.on_message(Stop{15, 500}, at(10))) == "main 0 15, group 0 18");
  CHECK(text_of(state.on_started(0, 77)) == "Started 10");
  CHECK(text_of(state.on_main_exit(0, {true, 15, false, 1}, at(20))) ==
        "Exited 10 signal 15 stopped, group 0 15, group 0 18, all 15, all 18");
}

TEST_CASE("signals of the head wait for the exec, each once, and a pause gives it its time anew") {
  AgentState state(kStart);
  Prepare prepare = prepare_of(1);
  prepare.head_timeout_ms = 0;
  prepare.settings.start_timeout_ms = 1'000;
  state.on_message(prepare, at(0));
  state.on_checked({}, 1);
  state.on_message(Go{}, at(0));
  state.on_forked(0, "/nfs/prog", at(0));
  CHECK(text_of(state.on_message(Signal{64}, at(1))) == "");
  CHECK(text_of(state.on_message(Signal{10}, at(2))) == "");
  CHECK(text_of(state.on_message(Signal{64}, at(3))) == "");
  CHECK(text_of(state.on_message(Pause{true}, at(900))) == "group 0 19, Paused");
  CHECK(text_of(state.on_tick(at(1'500))) == "");
  CHECK(text_of(state.on_message(Pause{false}, at(2'000))) == "group 0 18");
  CHECK(text_of(state.on_tick(at(2'999))) == "");
  CHECK(text_of(state.on_started(0, 77)) == "Started 10, main 0 10, main 0 64");
  CHECK(text_of(state.on_tick(at(3'001))) == "");
}

TEST_CASE("Stop signals main processes, and after the grace kills groups and everything else until nobody is left") {
  AgentState state = running(2);
  state.on_head_bytes(at(0));
  CHECK(text_of(state.on_message(Stop{2, 500}, at(0))) == "main 0 2, group 0 18, main 1 2, group 1 18");
  CHECK(text_of(state.on_main_exit(0, {true, 2, false, 1}, at(10))) ==
        "Exited 10 signal 2 stopped, group 0 15, group 0 18");
  state.on_group_gone(0);
  CHECK(text_of(state.on_tick(at(499))) == "");
  CHECK(state.next_tick() == at(500));
  CHECK(text_of(state.on_tick(at(500))) == "group 1 9, all 9");
  CHECK(text_of(state.on_tick(at(501))) == "");
  CHECK(text_of(state.on_tick(at(550))) == "group 1 9, all 9");
  CHECK(text_of(state.on_main_exit(1, {true, 9, false, 1}, at(551))) == "Exited 11 signal 9 stopped, group 1 9, all 9");
  CHECK(text_of(state.on_nobody_left()) == "close");
  CHECK(text_of(state.on_tick(at(700))) == "");
}

TEST_CASE("a second Stop may shorten the grace and never lengthens it") {
  AgentState state = running(1);
  state.on_message(Stop{15, 500}, at(0));
  state.on_message(Stop{15, 5'000}, at(100));
  CHECK(state.next_tick() == at(500));
  state.on_message(Stop{15, 200}, at(100));
  CHECK(state.next_tick() == at(300));
  CHECK(text_of(state.on_message(Stop{15, 0}, at(200))) == "main 0 15, group 0 18, group 0 9, all 9");
}

TEST_CASE("what is left of a finished rank's group is killed after the plan's grace while other ranks run") {
  AgentState state = running(2);
  state.on_head_bytes(at(0));
  CHECK(text_of(state.on_main_exit(0, kExitZero, at(100))) == "Exited 10 0, group 0 15, group 0 18");
  CHECK(state.next_tick() == at(1'100));
  CHECK(text_of(state.on_tick(at(1'100))) == "group 0 9");
  state.on_group_gone(0);
  CHECK(text_of(state.on_tick(at(1'200))) == "");
  CHECK(text_of(state.on_nobody_left()) == "");  // rank 1 runs: a mistake of the caller ends nothing
}

TEST_CASE("a daemon left behind at the end is killed after the grace") {
  AgentState state = running(1);
  state.on_head_bytes(at(0));
  state.on_main_exit(0, kExitZero, at(0));
  state.on_group_gone(0);
  CHECK(state.next_tick() == at(1'000));
  CHECK(text_of(state.on_tick(at(1'000))) == "all 9");
  CHECK(text_of(state.on_tick(at(1'050))) == "all 9");
  end_outputs(state, 1);
  CHECK(text_of(state.on_nobody_left()) == "close, Done, quit 0 flush");
}

TEST_CASE("the window counts Output up to the last Ack, and an impossible Ack is refused") {
  AgentState state = running(1);
  CHECK(state.output_allowance() == 100);
  state.on_output(0, Stream::out, Bytes(60));
  CHECK(state.output_allowance() == 40);
  state.on_output(0, Stream::err, Bytes(40));
  CHECK(state.output_allowance() == 0);
  state.on_message(Ack{70}, at(0));
  CHECK(state.output_allowance() == 70);
  state.on_message(Ack{50}, at(0));  // an older total changes nothing
  CHECK(state.output_allowance() == 70);
  CHECK(text_of(state.on_message(Ack{101}, at(0))) ==
        "Failed -1 the head sent an Ack of bytes that were never sent, main 0 15, group 0 18");
  CHECK(state.head_lost());
}

TEST_CASE("a window wider than a frame gives frames of at most 64 KiB") {
  AgentState state(kStart);
  Prepare prepare = prepare_of(1);
  prepare.window_bytes = 1u << 20;
  state.on_message(prepare, at(0));
  CHECK(state.output_allowance() == kMaxOutputBytes);
}

TEST_CASE("a lost head stops the ranks; their output is taken and thrown away; nobody is told") {
  AgentState state = running(1);
  state.on_output(0, Stream::out, Bytes(100));
  CHECK(text_of(state.on_head_gone(at(0))) == "main 0 15, group 0 18");
  CHECK(text_of(state.on_head_gone(at(0))) == "");
  CHECK(state.output_allowance() == kMaxOutputBytes);
  CHECK(text_of(state.on_output(0, Stream::out, Bytes(5'000))) == "");
  CHECK(text_of(state.on_tick(at(1'000))) == "group 0 9, all 9");
  CHECK(text_of(state.on_main_exit(0, {true, 9, false, 1}, at(1'001))) == "group 0 9, all 9");
  CHECK(text_of(state.on_nobody_left()) == "close, quit 69");
}

TEST_CASE("a head lost while stopping shortens nothing that was shorter") {
  AgentState state = running(1);
  state.on_message(Stop{15, 300}, at(0));
  CHECK(text_of(state.on_head_gone(at(100))) == "");
  CHECK(state.next_tick() == at(300));
  AgentState patient = running(1);
  patient.on_message(Stop{15, 60'000}, at(0));
  patient.on_head_gone(at(100));
  CHECK(patient.next_tick() == at(1'100));
}

TEST_CASE("a silent head is lost when its time is over, and any byte keeps it") {
  AgentState state = running(1);
  state.on_head_bytes(at(5'000));
  state.on_tick(at(13'999));
  CHECK_FALSE(state.head_lost());
  CHECK(text_of(state.on_tick(at(14'000))).starts_with("main 0 15"));
  CHECK(state.head_lost());
}

TEST_CASE("without a head timeout the agent waits for ever; before Prepare it has one of its own") {
  AgentState state(kStart);
  CHECK(text_of(state.on_tick(kStart + kHandshakeTimeout)) == "quit 69");
  AgentState detached(kStart);
  Prepare prepare = prepare_of(1);
  prepare.head_timeout_ms = 0;
  detached.on_message(prepare, at(0));
  detached.on_tick(kStart + std::chrono::hours(1000));
  CHECK_FALSE(detached.head_lost());
}

TEST_CASE("Pings are sent three times within the head's timeout, at least every five seconds") {
  AgentState state = running(1);
  CHECK(state.next_tick() == at(3'000));
  CHECK(text_of(state.on_tick(at(2'999))) == "");
  CHECK(text_of(state.on_tick(at(3'000))) == "Ping");
  CHECK(state.next_tick() == at(6'000));
}

TEST_CASE("a head that stops reading after Done does not hold the agent") {
  AgentState state(kStart);
  CHECK(text_of(state.on_message(Stop{}, at(0))) == "Done, quit 0 flush");
  CHECK(state.next_tick() == at(15'000));
  CHECK(text_of(state.on_tick(at(15'000))) == "quit 0");
}

TEST_CASE("another version's Prepare is answered and the head may still say Stop") {
  AgentState state(kStart);
  CHECK(text_of(state.on_head_error(make_error(Errc::version_mismatch, "version 2"), at(0))) == "Failed -1 version 2");
  CHECK(text_of(state.on_message(Go{}, at(0))) == "");
  CHECK(text_of(state.on_message(Stop{}, at(0))) == "Done, quit 0 flush");
}

TEST_CASE("a signal goes to the main processes that run, and a number that is none is refused") {
  AgentState state = running(2);
  state.on_main_exit(0, kExitZero, at(0));
  CHECK(text_of(state.on_message(Signal{SIGUSR1}, at(0))) == "main 1 10");
  CHECK(text_of(state.on_main_exit(1, kExitZero, at(0))).starts_with("Exited 11 0, "));
  AgentState other = running(1);
  CHECK(text_of(other.on_message(Signal{0}, at(0))).starts_with("Failed -1 the head sent Signal with number 0"));
}

TEST_CASE("SIGTERM to the agent is a Stop with the plan's grace, and the head is told how all ended") {
  AgentState state = running(1);
  CHECK(text_of(state.on_terminate(at(0))) == "main 0 15, group 0 18");
  CHECK(text_of(state.on_main_exit(0, {false, 1, false, 1}, at(5))).starts_with("Exited 10 1 stopped, "));
}

TEST_CASE("a second Prepare is refused") {
  AgentState state(kStart);
  state.on_message(prepare_of(1), at(0));
  CHECK(text_of(state.on_message(prepare_of(1), at(0))) == "Failed -1 the head sent a second Prepare, quit 69 flush");
}

TEST_CASE("processes that SIGKILL does not end are named to the head, once") {
  AgentState state = running(1);
  state.on_message(Stop{15, 0}, at(0));
  state.on_head_bytes(at(9'000));
  CHECK(text_of(state.on_tick(at(9'999))) == "Ping, group 0 9, all 9");
  state.on_tick(at(10'000));
  CHECK(text_of(state.on_tick(at(10'050))) == "group 0 9, all 9, survivors");
  CHECK(text_of(state.on_survivors({"7 (python3)", "8 (nfs reader)"})) ==
        "Failed -1 2 processes do not end after SIGKILL: 7 (python3), 8 (nfs reader)");
  CHECK(text_of(state.on_survivors({})) == "");
  CHECK(text_of(state.on_tick(at(10'100))) == "group 0 9, all 9");
}

// --- a connection that is cut ---------------------------------------------------------------------------------------

namespace {

// As `running`, by a head that may come back.
AgentState resumable(std::uint32_t ranks) {
  AgentState state(kStart);
  Prepare prepare = prepare_of(ranks);
  prepare.resume_name = "job";
  prepare.resume_key = "secret";
  state.on_message(prepare, at(0));
  state.on_checked({}, 4711);
  CHECK(text_of(state.on_message(Go{}, at(0))) == "listen, start");
  for (std::uint32_t i = 0; i < ranks; ++i) {
    state.on_forked(i, "/bin/prog", at(0));
    state.on_started(i, 1000 + i);
  }
  return state;
}

void end_all(AgentState& state) {
  state.on_main_exit(0, kExitZero, at(1));
  state.on_nobody_left();
  state.on_output_end(0, Stream::out);
}

}  // namespace

TEST_CASE("a connection that ends is the head's end when there is no way to come back") {
  AgentState state = running(1);
  CHECK(text_of(state.on_cut(at(1))) == "main 0 15, group 0 18");
  CHECK(state.head_lost());
}

TEST_CASE("the ranks run on while the head is away, and are read without its credit") {
  AgentState state = resumable(1);
  state.on_output(0, Stream::out, Bytes(100));
  CHECK(state.output_allowance() == 0);
  CHECK(text_of(state.on_cut(at(1))) == "");
  CHECK_FALSE(state.connected());
  CHECK(state.output_allowance() == kMaxOutputBytes);
  CHECK(text_of(state.on_output(0, Stream::out, Bytes(5000))) == "Output 10 5000");
  CHECK(text_of(state.on_tick(at(8'999))) == "");  // no Ping: nobody is there
}

TEST_CASE("a head that is away for its time is lost, and its ranks are stopped") {
  AgentState state = resumable(1);
  state.on_head_bytes(at(500));
  state.on_cut(at(1'000));
  CHECK(state.next_tick() == at(9'500));
  CHECK(text_of(state.on_tick(at(9'500))) == "main 0 15, group 0 18");
  CHECK(state.head_lost());
  Resume late;
  late.key = "secret";
  CHECK_FALSE(state.knows(late));
}

TEST_CASE("only who has the job's key is the head") {
  AgentState state = resumable(1);
  for (const char* key : {"", "Secret", "secre", "secrets"}) {
    Resume resume;
    resume.key = key;
    CHECK_FALSE(state.knows(resume));
  }
  Resume resume;
  resume.key = "secret";
  CHECK(state.knows(resume));
  CHECK_FALSE(running(1).knows(Resume{}));  // without a key nobody is
}

TEST_CASE("a head that is back hears which of its orders came, and its credit counts again") {
  AgentState state = resumable(1);
  state.on_message(Signal{10}, at(1));
  state.on_cut(at(2));
  state.on_output(0, Stream::out, Bytes(250));
  CHECK(text_of(state.on_resumed(Ack{200, 3, 1}, at(8'000))) == "Resumed 2");  // Go and Signal
  CHECK(state.connected());
  CHECK(state.acked_bytes() == 200);
  CHECK(state.output_allowance() == 50);
  CHECK(state.next_tick() == at(11'000));  // a Ping; its silence counts from now on
}

TEST_CASE("orders are confirmed with the next sign of life") {
  AgentState state = resumable(1);
  state.on_head_bytes(at(2'900));
  CHECK(text_of(state.on_tick(at(3'000))) == "Taken 1");
  CHECK(text_of(state.on_tick(at(6'000))) == "Ping");
}

TEST_CASE("what the head has is forgotten") {
  AgentState state = resumable(1);
  state.on_output(0, Stream::out, Bytes(9));
  CHECK(text_of(state.on_message(Ack{9, 1, 1}, at(1))) == "confirm 1");
}

TEST_CASE("an agent whose job is over stays until the head has heard it") {
  AgentState state = resumable(1);
  end_all(state);
  CHECK(text_of(state.on_output_end(0, Stream::err)) == "OutputEnd 10, Done");
  CHECK(text_of(state.on_cut(at(2))) == "");
  CHECK(text_of(state.on_message(Stop{15, 0}, at(2))) == "");
  CHECK(text_of(state.on_resumed(Ack{}, at(3))) == "Resumed 2");
  CHECK(text_of(state.on_message(Bye{}, at(4))) == "quit 0");
}

TEST_CASE("an agent whose job is over waits for a head that is away no longer than before") {
  AgentState state = resumable(1);
  end_all(state);
  state.on_output_end(0, Stream::err);
  state.on_cut(at(2));
  CHECK(text_of(state.on_tick(at(9'000))) == "quit 69");
}

TEST_CASE("a head that breaks the protocol after Done is not waited for") {
  AgentState state = resumable(1);
  end_all(state);
  state.on_output_end(0, Stream::err);
  CHECK(text_of(state.on_message(Go{}, at(2))) ==
        "Failed -1 the head sent a Go that no Ready was sent for, quit 69 flush");
}

TEST_CASE("an agent that was started for a connection gives it to the one that has the job") {
  AgentState state(kStart);
  Resume resume;
  resume.name = "job";
  CHECK(text_of(state.on_message(resume, at(0))) == "attach job");
  CHECK(text_of(state.on_failed(make_error(Errc::not_found, "none there"))) == "Failed -1 none there");
  AgentState busy = resumable(1);
  CHECK(text_of(busy.on_message(resume, at(0))) ==
        "Failed -1 the head sent a Resume in the midst of a job, main 0 15, group 0 18");
  AgentState early = resumable(1);
  CHECK(text_of(early.on_message(Bye{}, at(0))) == "Failed -1 the head sent a Bye before Done, main 0 15, group 0 18");
}

TEST_CASE("a paused job stops its groups, answers, and waits for its head without a limit") {
  AgentState state = running(2);
  CHECK(text_of(state.on_message(Pause{true}, at(100))) == "group 0 19, group 1 19, Paused");
  CHECK(text_of(state.on_tick(at(1'000'000))) == "Ping");  // a connection that is dead shows by what cannot be sent
  state.on_head_bytes(at(2'000'000));
  CHECK(text_of(state.on_message(Pause{false}, at(2'000'000))) == "group 0 18, group 1 18");
  CHECK(text_of(state.on_tick(at(2'009'000))) == "main 0 15, group 0 18, main 1 15, group 1 18");  // 9 s of silence
}

TEST_CASE("a paused job whose head dies is continued, so that it can end") {
  AgentState state = running(1);
  state.on_message(Pause{true}, at(0));
  CHECK(text_of(state.on_head_gone(at(100))) == "main 0 15, group 0 18");
  CHECK(text_of(state.on_tick(at(1'100))) == "group 0 9, all 9");
}

TEST_CASE("a paused job whose connection is cut waits for its head no longer than others") {
  AgentState state = resumable(1);
  state.on_message(Pause{true}, at(0));
  CHECK(text_of(state.on_cut(at(100'000))) == "");
  CHECK(text_of(state.on_tick(at(108'999))) == "");
  CHECK(text_of(state.on_tick(at(109'000))) == "main 0 15, group 0 18");
}

TEST_CASE("with the credit for input its orders are confirmed, so that the head need not keep them") {
  AgentState state = resumable(1);
  state.on_message(Input{0, Bytes(3)}, at(0));
  state.on_message(InputEnd{}, at(0));
  CHECK(text_of(state.on_input_taken(InputTaken{3})) == "Taken 3, InputTaken 3");  // Go was the first
}

TEST_CASE("a Stop continues a paused job, and a job that is being stopped is not paused any more") {
  AgentState state = running(1);
  state.on_message(Pause{true}, at(0));
  CHECK(text_of(state.on_message(Stop{15, 1'000}, at(10))) == "main 0 15, group 0 18");
  CHECK(text_of(state.on_message(Pause{true}, at(20))) == "Paused");
  CHECK(text_of(state.on_tick(at(1'010))) == "group 0 9, all 9");
}

TEST_CASE("a Pause has its time between Prepare and Done") {
  AgentState early(kStart);
  CHECK(text_of(early.on_message(Pause{true}, at(0))).starts_with("Failed -1 the head sent a Pause before Prepare"));
  AgentState preparing(kStart);
  preparing.on_message(prepare_of(1), at(0));
  CHECK(text_of(preparing.on_message(Pause{true}, at(0))) == "Paused");
  CHECK(text_of(preparing.on_tick(at(100'000))) == "Ping");
}

TEST_CASE("input reaches the loop while ranks run, and not before") {
  AgentState state = running(1);
  CHECK(text_of(state.on_message(Input{0, Bytes(3)}, at(0))) == "input 3");
  CHECK(text_of(state.on_message(InputEnd{}, at(0))) == "end of input");
  AgentState early(kStart);
  early.on_message(prepare_of(1), at(0));
  CHECK(text_of(early.on_message(Input{0, Bytes(3)}, at(0))).starts_with("Failed -1 the head sent"));
}

TEST_CASE("noise of setup lines and the chosen threads are told before the ranks start") {
  AgentState state(kStart);
  state.on_message(prepare_of(1), at(0));
  CHECK(text_of(state.on_noise("loading cuda")) == "Noise loading cuda");
  CHECK(text_of(state.on_checked({}, 1, 8)) == "Ready 1 with 8 threads");
  CHECK(text_of(state.on_noise("too late")) == "");
}

}  // namespace launcher_agent_state_test
