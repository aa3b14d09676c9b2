// The RemoteShell that forks the agent on this machine: opens, carries bytes both ways, shows noise, leaves no zombie.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <fstream>

#include "launcher/agent/protocol.hpp"
#include "launcher/local_child.hpp"
#include "launcher/remote.hpp"
#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace local_shell_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::TemporaryDirectory;

namespace {

std::shared_ptr<RemoteShell> shell_of(asio::io_context& context, const std::string& program,
                                      std::chrono::milliseconds start_limit = std::chrono::seconds(60)) {
  auto binary = std::make_shared<AgentBinary>();
  binary->path = program;
  HostPlan host;
  host.name = "localhost";
  host.local = true;
  return make_local_shell(context.get_executor(), host, binary, start_limit);
}

// A program of the test's own in the agent's place.
std::string script(const TemporaryDirectory& directory, const std::string& text) {
  const std::string path = directory.str() + "/agent";
  std::ofstream(path) << "#!/bin/sh\n" << text;
  REQUIRE(::chmod(path.c_str(), 0700) == 0);
  return path;
}

// Runs the coroutine and then the context to its end: what the shell left running must end by itself.
void run(asio::io_context& context, asio::awaitable<void> body) {
  std::exception_ptr failure;
  asio::co_spawn(context, std::move(body), [&failure](std::exception_ptr thrown) { failure = thrown; });
  context.run();
  if (failure) std::rethrow_exception(failure);
}

void no_child_is_left() {
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

asio::awaitable<void> open_into(std::shared_ptr<RemoteShell> shell, Result<void>& opened) {
  opened = co_await shell->open();
  shell->close();
}

asio::awaitable<void> read_all(std::shared_ptr<RemoteShell> shell, Bytes& all) {
  std::vector<std::byte> piece(1000);
  while (true) {
    const Result<std::size_t> got = co_await shell->read_some(std::span<std::byte>(piece));
    if (!got) throw std::runtime_error(to_string(got.error()));
    if (*got == 0) co_return;
    all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(*got));
  }
}

// Until it has ended, more than its socket takes, and then three times more.
asio::awaitable<void> write_to_the_end(std::shared_ptr<RemoteShell> shell, std::vector<std::string>& told) {
  const Result<void> opened = co_await shell->open();
  if (!opened) throw std::runtime_error(to_string(opened.error()));
  const Bytes much(4u << 20, std::byte{'\n'});
  const Result<void> first = co_await shell->write(much);
  if (first) throw std::runtime_error("all of it was taken");
  for (int i = 0; i < 3; ++i) {
    const Result<void> again = co_await shell->write(much);
    told.push_back(again ? "taken" : to_string(again.error()));
  }
  shell->close();
}

asio::awaitable<void> run_job(std::shared_ptr<RemoteShell> shell, Bytes& all) {
  const Result<void> opened = co_await shell->open();
  if (!opened) throw std::runtime_error(to_string(opened.error()));
  const Bytes prepare = agent::encode(agent::HeadMessage(test::AgentDriver::job({"echo", "hello"})));
  const Bytes go = agent::encode(agent::HeadMessage(agent::Go{}));
  const Result<void> first = co_await shell->write(prepare);
  if (!first) throw std::runtime_error(to_string(first.error()));
  // Go only after Ready: Hello and Ready are the two first frames.
  FrameDecoder decoder(agent::kMaxAgentFrameBytes);
  bool ready = false;
  std::vector<std::byte> piece(1000);
  while (!ready) {
    const Result<std::size_t> got = co_await shell->read_some(std::span<std::byte>(piece));
    if (!got || *got == 0) throw std::runtime_error("no Ready came");
    decoder.feed(ByteView(piece).first(*got));
    for (auto frame = decoder.next(); frame && *frame; frame = decoder.next()) {
      const auto message = agent::decode_agent_message(**frame);
      ready = ready || (message && std::holds_alternative<agent::Ready>(*message));
    }
  }
  const Result<void> second = co_await shell->write(go);
  if (!second) throw std::runtime_error(to_string(second.error()));
  co_await read_all(shell, all);
  shell->close();
}

}  // namespace

// A filter of system calls plays the limit, which does not hold for root.
TEST_CASE("an agent for which there is no process names the limits") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
#ifdef SYS_vfork
    constexpr unsigned kForks = SYS_vfork;
#else
    constexpr unsigned kForks = SYS_clone;  // which is ThreadSanitizer's vfork everywhere
#endif
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kForks, 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
    constexpr int kNoFilterHere = 77;
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      ::_exit(kNoFilterHere);
    const auto started = fork_local_agent("/bin/true");
    ::_exit(!started && started.error().hint.find("ulimit -u") != std::string::npos ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    WARN("not run: no filter of system calls may be set here");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a local shell runs a job on the real agent and leaves no process behind") {
  asio::io_context context;
  const auto shell = shell_of(context, AGENT_PROGRAM);
  Bytes all;
  run(context, run_job(shell, all));
  CHECK(shell->step() == OpenStep::open);
  CHECK(shell->head_address() == "127.0.0.1");
  CHECK(shell->host_address() == "127.0.0.1");
  FrameDecoder decoder(agent::kMaxAgentFrameBytes);
  decoder.feed(all);
  std::string output;
  bool done = false;
  for (auto frame = decoder.next(); frame && *frame; frame = decoder.next()) {
    const auto message = agent::decode_agent_message(**frame);
    REQUIRE(message);
    if (const auto* piece = std::get_if<agent::Output>(&*message)) output += as_text(piece->data);
    done = std::holds_alternative<agent::Done>(*message);
  }
  CHECK(output == "hello\n");
  CHECK(done);
  no_child_is_left();
}

TEST_CASE("closing a local shell ends its agent") {
  asio::io_context context;
  const auto shell = shell_of(context, AGENT_PROGRAM);
  Result<void> opened;
  run(context, open_into(shell, opened));
  CHECK(opened);
  no_child_is_left();
}

TEST_CASE("what is said before the marker and on stderr is shown, line by line") {
  TemporaryDirectory directory;
  asio::io_context context;
  const auto shell = shell_of(context, script(directory,
                                              "echo welcome; echo; echo 'to this host'; echo broken >&2\n"
                                              "printf 'LLMLAUNCH AGENT 5\\nframes'; printf 'no newline' >&2\n"));
  std::vector<std::string> noise;
  shell->on_noise([&noise](std::string_view line) { noise.emplace_back(line); });
  Bytes all;
  const auto body = [](std::shared_ptr<RemoteShell> of, Bytes& into) -> asio::awaitable<void> {
    const Result<void> opened = co_await of->open();
    if (!opened) throw std::runtime_error(to_string(opened.error()));
    co_await read_all(of, into);
  };
  run(context, body(shell, all));
  CHECK(as_text(all) == "frames");
  std::sort(noise.begin(), noise.end());
  CHECK(noise == std::vector<std::string>{"broken", "no newline", "to this host", "welcome"});
  no_child_is_left();
}

TEST_CASE("an agent that has ended is told to each who writes to it, however often") {
  TemporaryDirectory directory;
  asio::io_context context;
  const auto shell = shell_of(context, script(directory, "echo LLMLAUNCH AGENT 5; read line; exit\n"));
  std::vector<std::string> told;
  run(context, write_to_the_end(shell, told));
  CHECK(told == std::vector<std::string>(3, "host localhost: the agent has ended"));
  no_child_is_left();
}

TEST_CASE("an agent that never says that it is ready is killed at its limit, with all that it started") {
  TemporaryDirectory directory;
  asio::io_context context;
  const auto shell = shell_of(context, script(directory, "sleep 1000\n"), std::chrono::milliseconds(50));
  Result<void> opened;
  run(context, open_into(shell, opened));
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == Errc::timed_out);
  CHECK(to_string(opened.error()) ==
        "host localhost: the agent '" + directory.str() +
            "/agent' was not ready within 0.05 s\n   hint: run it with --version to see whether it works here; a slow "
            "machine may need more: llmlaunch.timeouts.start");
  no_child_is_left();
}

TEST_CASE("an agent that cannot be used is named with the reason") {
  TemporaryDirectory directory;
  const std::string path = directory.str() + "/agent";
  struct Row {
    std::string text;
    Errc code;
    std::string what;
  };
  const std::vector<Row> rows = {
      {"", Errc::no_program, "the agent '" + path + "' cannot be started: No such file or directory"},
      {"exit 3\n", Errc::closed, "the agent '" + path + "' ended before it was ready"},
      {"echo LLMLAUNCH AGENT 9; read line\n", Errc::version_mismatch,
       "'" + path + "': the agent speaks version 9 of the agent protocol, this llmlaunch speaks version 5"},
      {"exec yes noise\n", Errc::protocol, "'" + path + "': more than 1048576 bytes came and no agent among them"},
  };
  for (const Row& row : rows) {
    if (!row.text.empty()) script(directory, row.text);
    asio::io_context context;
    const auto shell = shell_of(context, path);
    Result<void> opened;
    run(context, open_into(shell, opened));
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == row.code);
    CHECK(opened.error().what == row.what);
    CHECK(opened.error().where == "host localhost");
    no_child_is_left();
  }
}

}  // namespace local_shell_test
