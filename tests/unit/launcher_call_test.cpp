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

std::string refusal_of(const CallHello& hello) {
  CallAdmission admission(hello_of_machine(0));
  const auto admitted = admission.admit(hello);
  return admitted ? "" : admitted.error().what;
}

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
  const auto message = through_a_frame(hello);
  REQUIRE(message);
  const auto& again = std::get<CallHello>(*message);
  CHECK(again.version == "1.0");
  CHECK(again.machine_rank == 2);
  CHECK(again.num_machines == 3);
  CHECK(again.num_processes == 6);
  CHECK(again.hostname == "gpu07");
  CHECK(again.pid == 4711);
  CHECK(again.digest == hello.digest);
  CHECK(again.command == "python train.py");
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
  CHECK(admission.admit(hello_of_machine(1)));
  CHECK(admission.admit(hello_of_machine(2)));
  CallHello again = hello_of_machine(1);
  again.hostname = "gpu08";
  again.pid = 12;
  const auto refused = admission.admit(again);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::duplicate_rank);
  CHECK(refused.error().what ==
        "machine 1 is there already, gpu07 with pid 4711; another one called in, gpu08 with pid 12");
  CHECK(refused.error().hint == "give each machine a --machine_rank of its own (srun: --machine_rank $SLURM_NODEID)");
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
  const CallHello one = call_hello(plan, 1);
  CHECK(one.command.find("swordfish") == std::string::npos);
  plan.argv = {"a", "b", "--hf_token", "swordfish"};
  CHECK(call_hello(plan, 1).digest != one.digest);
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
