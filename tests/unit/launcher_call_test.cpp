// Machines that are started one by one: their messages, who is admitted, and their token.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "launcher/call_admission.hpp"
#include "launcher/call_messages.hpp"
#include "launcher/call_token.hpp"
#include "tests/support/catch.hpp"

namespace launcher_call_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

CallHello hello_of_machine(std::uint32_t machine_rank) {
  CallHello hello;
  hello.version = "1.0";
  hello.machine_rank = machine_rank;
  hello.num_machines = 3;
  hello.num_processes = 6;
  hello.hostname = "gpu07";
  hello.pid = 4711;
  hello.command = "python train.py";
  return hello;
}

/// One that leaves it to machine 0 which machine it is.
CallHello hello_without_place(const std::string& hostname, std::uint64_t pid) {
  CallHello hello = hello_of_machine(0);
  hello.machine_rank.reset();
  hello.hostname = hostname;
  hello.pid = hello.instance = pid;
  return hello;
}

std::string refusal_of(const CallHello& hello) {
  CallAdmission admission(hello_of_machine(0));
  const auto admitted = admission.admit(1, hello, "10.0.0.2");
  return admitted ? "" : admitted.error().what;
}

/// A job of so many machines, and the callers of it by number.
struct Door {
  explicit Door(std::uint32_t count) : admission(own(count)), machines(count) {}
  static CallHello own(std::uint32_t count) {
    CallHello hello = hello_without_place("head", 1);
    hello.num_machines = count;
    return hello;
  }
  /// "2→1 3→2": who has a place now; "waits", or why not.
  std::string call(CallAdmission::Caller caller, CallHello hello, const std::string& address = "10.0.0.9") {
    hello.num_machines = machines;
    const auto admitted = admission.admit(caller, hello, address);
    if (!admitted) return admitted.error().what;
    std::string text = admitted->replaced ? "instead of " + std::to_string(*admitted->replaced) + " " : "";
    for (const auto& place : admitted->placed)
      text += std::to_string(place.caller) + "→" + std::to_string(place.machine_rank) + " ";
    return admitted->placed.empty() ? text + "waits" : text;
  }
  CallAdmission admission;
  std::uint32_t machines;
};

Result<CallMessage> through_a_frame(const CallMessage& message) {
  const Bytes bytes = encode(message);
  return decode_call_message({std::to_integer<std::uint8_t>(bytes[4]), ByteView(bytes).subspan(kFrameHeaderBytes)});
}

std::string token_refusal(const Result<CallToken>& token) {
  return token ? "" : to_string(token.error());
}

}  // namespace

TEST_CASE("a hello of a machine comes out of its frame as it went in") {
  CallHello hello = hello_of_machine(2);
  hello.digest.fill(std::byte{7});
  hello.instance = 99;
  hello.run_id = "x";
  const auto message = through_a_frame(hello);
  REQUIRE(message);
  const auto& again = std::get<CallHello>(*message);
  CHECK(again.version == "1.0");
  CHECK(again.machine_rank == 2u);
  CHECK(again.num_machines == 3);
  CHECK(again.num_processes == 6);
  CHECK(again.hostname == "gpu07");
  CHECK(again.pid == 4711);
  CHECK(again.instance == 99);
  CHECK(again.run_id == "x");
  CHECK(again.digest == hello.digest);
  CHECK(again.command == "python train.py");
  hello.machine_rank.reset();
  const auto without = through_a_frame(hello);
  REQUIRE(without);
  CHECK_FALSE(std::get<CallHello>(*without).machine_rank);
}

TEST_CASE("a place, and that it has to be waited for, come out of their frames") {
  const auto welcome = through_a_frame(CallWelcome{3, "machine3", 6, 7});
  REQUIRE(welcome);
  CHECK(std::get<CallWelcome>(*welcome).machine_rank == 3);
  CHECK(std::get<CallWelcome>(*welcome).name == "machine3");
  CHECK(std::get<CallWelcome>(*welcome).last_rank == 7);
  const auto wait = through_a_frame(CallWait{2, 5});
  REQUIRE(wait);
  CHECK(std::get<CallWait>(*wait).here == 2);
  CHECK(std::get<CallWait>(*wait).num_machines == 5);
  CHECK_FALSE(decode_call_message({9, Bytes(7)}));
}

TEST_CASE("of a hello of another protocol nothing but the version is read") {
  FrameEncoder later(1);
  later.u16(9).text("2.0").text("what nobody knows yet");
  const Bytes bytes = std::move(later).finish();
  const auto message = decode_call_message({1, ByteView(bytes).subspan(kFrameHeaderBytes)});
  REQUIRE(message);
  CHECK(refusal_of(std::get<CallHello>(*message)) == "a machine that calls in runs llmlaunch 2.0, machine 0 runs 1.0");
}

TEST_CASE("a message between machines that is unknown or cut is refused") {
  const Bytes none;
  CHECK(decode_call_message({99, none}).error().what == "a message of the unknown type 99");
  CHECK(decode_call_message({8, none}).error().what == "a message of type 8 lacks fields");
}

TEST_CASE("a machine is admitted once, when world and program are machine 0's") {
  CallAdmission admission(hello_of_machine(0));
  CHECK(admission.admit(1, hello_of_machine(1), "10.0.0.2"));
  CHECK(admission.admit(2, hello_of_machine(2), "10.0.0.3"));
  CallHello again = hello_of_machine(1);
  again.hostname = "gpu08";
  again.pid = 12;
  const auto refused = admission.admit(3, again, "10.0.0.4");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::duplicate_rank);
  CHECK(refused.error().what ==
        "machine 1 is there already, gpu07 with pid 4711; another one called in, gpu08 with pid 12");
  CHECK(refused.error().hint ==
        "give each machine a --machine_rank of its own (srun: --machine_rank $SLURM_NODEID), or none: then machine 0 "
        "gives out the places");
}

TEST_CASE("machines that name no place have theirs when all are there, by host name, address and process") {
  Door names(5);
  CHECK(names.call(1, hello_without_place("gpu10", 7)) == "waits");
  CHECK(names.call(2, hello_without_place("gpu9", 8)) == "waits");
  CHECK(names.call(3, hello_without_place("gpu010", 9)) == "waits");
  CHECK(names.admission.here() == 4);
  CHECK(names.call(4, hello_without_place("cpu", 6)) == "4→1 2→2 3→3 1→4 ");
  CHECK(names.admission.here() == 5);
  CHECK_FALSE(names.admission.anybody_waits());
  Door addresses(3);
  CHECK(addresses.call(1, hello_without_place("node", 7), "10.0.0.10") == "waits");
  CHECK(addresses.call(2, hello_without_place("node", 8), "10.0.0.9") == "2→1 1→2 ");
  Door processes(3);
  CHECK(processes.call(1, hello_without_place("node", 70)) == "waits");
  CHECK(processes.call(2, hello_without_place("node", 8)) == "2→1 1→2 ");
}

TEST_CASE("the order in which machines call in changes no place") {
  const auto place_of_b = [](std::vector<std::string> order) {
    Door door(4);
    std::string last;
    CallAdmission::Caller caller = 0, b = 0;
    for (const std::string& name : order) {
      if (++caller; name == "b") b = caller;
      last = door.call(caller, hello_without_place(name, caller));
    }
    const std::size_t at = last.find(std::to_string(b) + "→");
    return last.substr(at + 4, 1);
  };
  CHECK(place_of_b({"a", "b", "c"}) == "2");
  CHECK(place_of_b({"c", "b", "a"}) == "2");
  CHECK(place_of_b({"b", "c", "a"}) == "2");
}

TEST_CASE("a machine that went away before all were there makes room, and has its place when it is back") {
  Door door(4);
  CHECK(door.call(1, hello_without_place("a", 1)) == "waits");
  CHECK(door.call(2, hello_without_place("b", 2)) == "waits");
  door.admission.gone(1);
  CHECK(door.admission.here() == 2);
  CHECK(door.call(3, hello_without_place("c", 3)) == "waits");
  CHECK(door.call(4, hello_without_place("a", 11)) == "4→1 2→2 3→3 ");
  door.admission.gone(4);  // its place stays its own: the job ends with it
  CHECK(door.call(5, hello_without_place("a", 12)).starts_with("all 4 machines of this job are there: "));
}

TEST_CASE("a process that calls again is no second machine") {
  Door door(3);
  CHECK(door.call(1, hello_without_place("a", 1)) == "waits");
  CHECK(door.call(2, hello_without_place("a", 1)) == "instead of 1 waits");
  CHECK(door.admission.here() == 2);
  door.admission.gone(1);  // what is heard of it later changes nothing
  CHECK(door.admission.here() == 2);
  CHECK(door.call(3, hello_without_place("b", 2)) == "2→1 3→2 ");
}

TEST_CASE("a machine that names its place keeps it from those that name none") {
  Door door(4);
  CHECK(door.call(1, hello_without_place("a", 1)) == "waits");
  CHECK(door.call(2, hello_of_machine(2)) == "2→2 ");
  CHECK(door.admission.anybody_waits());
  CHECK(door.call(3, hello_of_machine(2)).starts_with("machine 2 is there already, gpu07 with pid 4711; another one"));
  CHECK(door.call(4, hello_without_place("b", 4)) == "1→1 4→3 ");
  CHECK(door.call(5, hello_of_machine(1)) ==
        "machine 1 is there already, a with pid 1; another one called in, gpu07 with pid 4711");
  Door last(3);
  CHECK(last.call(1, hello_without_place("a", 1)) == "waits");
  CHECK(last.call(2, hello_of_machine(1)) == "2→1 1→2 ");
}

TEST_CASE("one machine more than the job has is refused with those that are there") {
  Door door(2);
  CHECK(door.call(1, hello_without_place("gpu02", 12)) == "1→1 ");
  CHECK(door.call(2, hello_without_place("gpu03", 13)) ==
        "all 2 machines of this job are there: machine 0 (head, pid 1), machine 1 (gpu02, pid 12); gpu03 with pid 13 "
        "would be one more");
  Door many(12);
  for (CallAdmission::Caller caller = 1; caller < 11; ++caller)
    CHECK(many.call(caller, hello_without_place("n", caller)) == "waits");
  CHECK(many.admission.those_here().ends_with("a machine (n, pid 7) and 3 more"));
}

TEST_CASE("machines of two ids are two jobs") {
  CallHello hello = hello_without_place("gpu02", 12);
  hello.run_id = "other";
  CHECK(refusal_of(hello) == "a machine (gpu02, pid 12) was started with --rdzv-id 'other', machine 0 with ''");
}

TEST_CASE("another protocol of the same version is told by its number") {
  CallHello hello = hello_of_machine(1);
  hello.protocol = 1;
  CHECK(refusal_of(hello) == "a machine that calls in runs llmlaunch 1.0, machine 0 runs 1.0 (call protocols 1 and 2)");
}

TEST_CASE("a machine that differs from machine 0 hears both values") {
  CallHello hello = hello_of_machine(1);
  hello.num_machines = 2;
  CHECK(refusal_of(hello) == "machine 1 (gpu07, pid 4711) was started with num_machines 2, machine 0 with 3");
  hello = hello_of_machine(1);
  hello.num_processes = 8;
  CHECK(refusal_of(hello) == "machine 1 (gpu07, pid 4711) was started with num_processes 8, machine 0 with 6");
  hello = hello_of_machine(1);
  hello.digest.fill(std::byte{1});
  hello.command = "python other.py";
  CHECK(refusal_of(hello) ==
        "machine 1 (gpu07, pid 4711) was started with 'python other.py', machine 0 with 'python train.py'");
  hello.command = "python train.py";
  CHECK(refusal_of(hello) ==
        "machine 1 (gpu07, pid 4711) was started with 'python train.py', machine 0 with 'python train.py': they differ "
        "in what is masked or cut here");
  CHECK(refusal_of(hello_of_machine(0)) == "machine 0 (gpu07, pid 4711): the machines that call in are 1 to 2");
  CHECK(refusal_of(hello_of_machine(3)) == "machine 3 (gpu07, pid 4711): the machines that call in are 1 to 2");
  hello = hello_of_machine(1);
  hello.version = "0.9";
  CHECK(refusal_of(hello) == "a machine that calls in runs llmlaunch 0.9, machine 0 runs 1.0");
}

TEST_CASE("a plan's words are told apart, and its secrets are not shown") {
  LaunchPlan plan;
  plan.hosts.resize(2);
  plan.argv = {"a b", "--hf_token", "swordfish"};
  const CallHello one = call_hello(plan, 1, 0);
  CHECK(one.command.find("swordfish") == std::string::npos);
  plan.argv = {"a", "b", "--hf_token", "swordfish"};
  CHECK(call_hello(plan, 1, 0).digest != one.digest);
}

TEST_CASE("of the signals that a machine passes on machine 0 takes those that it would take itself") {
  const std::vector<int> forwarded{40};
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, 40})
    CHECK(called_signal(static_cast<std::uint32_t>(number), forwarded) == CalledSignal::taken);
  for (const int number : {SIGWINCH, SIGTTIN, SIGSEGV, SIGPIPE, 41})
    CHECK(called_signal(static_cast<std::uint32_t>(number), forwarded) == CalledSignal::not_ours);
  for (const std::uint32_t number : {0u, 9u, 19u, 65u, 0x8000'0000u, 0xffff'ffffu})
    CHECK(called_signal(number, forwarded) == CalledSignal::impossible);
}

TEST_CASE("one token gives each job another one, and its own key is neither") {
  const std::string text(64, 'a');
  const auto token = CallToken::parse(text + "\n", "there");
  REQUIRE(token);
  CHECK(token->rank_token("job1").size() == 64);
  CHECK(token->rank_token("job1") == CallToken::parse(text, "elsewhere")->rank_token("job1"));
  CHECK(token->rank_token("job1") != token->rank_token("job2"));
  CHECK(token->key() != CallToken::parse(std::string(64, 'b'), "there")->key());
}

TEST_CASE("a token that is too short is refused without being shown") {
  CHECK(token_refusal(CallToken::parse("swordfish", "token.txt")) ==
        "token.txt: the token has 9 characters; it must have 32 to 4096\n   hint: (umask 077; openssl rand -hex 32 > "
        "token) makes one");
}

TEST_CASE("a token file is read when nobody else may") {
  char name[] = "/tmp/llmlaunch-token-XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream(name) << std::string(64, 'a') << "\n";
  CHECK(token_refusal(CallToken::read(name, "")) == "");
  REQUIRE(::chmod(name, 0640) == 0);
  const std::string path = name;
  const bool root = ::geteuid() == 0;  // whose files systemd hands out with an ACL
  if (!root) CHECK(token_refusal(CallToken::read(name, "")).find("others may read") != std::string::npos);
  REQUIRE(::chmod(name, 0604) == 0);
  const auto read = CallToken::read(name, "cfg.yaml:3:5");
  REQUIRE_FALSE(read);
  CHECK(read.error().where == "cfg.yaml:3:5");
  CHECK(read.error().what == "others may read the token file '" + path + "' (mode 0604)");
  CHECK(read.error().hint == "chmod 600 " + path + ", and make another token if somebody may have seen it");
  ::unlink(name);
  CHECK(CallToken::read(name, "--token-file").error().what ==
        "the token file '" + path + "' cannot be read: No such file or directory");
}

}  // namespace launcher_call_test
