// The head's side of the agent protocol for tests; every wait is a poll for an event with a generous limit.
#include "tests/support/agent_driver.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace llmlaunch::test {
namespace {

constexpr int kLimitMs = 60'000;

[[noreturn]] void broken(const std::string& what) {
  throw std::runtime_error(what);
}

void wait_for(int fd, short events, const char* what) {
  pollfd entry{fd, events, 0};
  int ready = 0;
  do ready = ::poll(&entry, 1, kLimitMs);
  while (ready < 0 && errno == EINTR);
  if (ready <= 0) broken(std::string("not seen within a minute: ") + what);
}

}  // namespace

Lifeline::Lifeline() {
  if (::mkfifo(path().c_str(), 0600) != 0) broken("mkfifo failed");
  fd_ = ::open(path().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd_ < 0) broken("open of the FIFO failed");
}
Lifeline::~Lifeline() {
  ::close(fd_);
}

void Lifeline::wait_until_released() {
  char byte[256];
  while (true) {
    wait_for(fd_, POLLIN, "the end of every process of the job");
    const ssize_t got = ::read(fd_, byte, sizeof(byte));
    if (got == 0) return;
    if (got < 0 && errno != EAGAIN && errno != EINTR) broken("read of the FIFO failed");
  }
}

AgentDriver::AgentDriver(const std::string& program, const agent::EnvList& environment) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) broken("socketpair failed");
  pid = ::fork();
  if (pid < 0) broken("fork failed");
  if (pid == 0) {
    ::dup2(ends[1], STDIN_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], 77);  // a descriptor that leaks into the agent, as from a careless starter
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execl(program.c_str(), program.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(ends[1]);
  fd_ = ends[0];
  std::string marker;
  while (!marker.ends_with('\n')) {
    wait_for(fd_, POLLIN, "the marker line");
    char byte = 0;
    if (::read(fd_, &byte, 1) != 1) broken("the agent ended before its marker line");
    marker += byte;
  }
  if (marker != fmt::format("{}{}\n", agent::kMarkerPrefix, agent::kProtocolVersion))
    broken("not the marker line: " + marker);
  hello = expect<agent::Hello>();
}

AgentDriver::~AgentDriver() {
  hang_up();
  if (pid > 0) {
    // The watchman cleans up behind a killed agent, whatever state the test has left the job in.
    ::kill(hello.pid > 0 ? static_cast<pid_t>(hello.pid) : pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

void AgentDriver::send(const agent::HeadMessage& message) {
  send_bytes(agent::encode(message));
}

void AgentDriver::send_bytes(ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    // An Ack may cross the agent's Done; whether it should have listened shows in what comes from it.
    if (put < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
    if (put < 0) broken("the agent does not read");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

bool AgentDriver::read_more() {
  wait_for(fd_, POLLIN, "a byte from the agent");
  std::vector<std::byte> piece(1 << 16);
  const ssize_t got = ::read(fd_, piece.data(), piece.size());
  if (got <= 0) return false;
  decoder_.feed(ByteView(piece).first(static_cast<std::size_t>(got)));
  return true;
}

agent::AgentMessage AgentDriver::next() {
  while (true) {
    agent::AgentMessage message = next_of_any_type();
    if (!std::holds_alternative<agent::Ping>(message)) return message;
  }
}

void AgentDriver::next_ping() {
  while (true) {
    agent::AgentMessage message = next_of_any_type();
    if (std::holds_alternative<agent::Ping>(message)) return;
    if (!take(std::move(message))) broken("Done instead of a Ping");
  }
}

agent::AgentMessage AgentDriver::next_of_any_type() {
  while (true) {
    const auto frame = decoder_.next();
    if (!frame) broken(to_string(frame.error()));
    if (!*frame) {
      if (!read_more()) broken("the agent's stream ended");
      continue;
    }
    auto message = agent::decode_agent_message(**frame);
    if (!message) broken(to_string(message.error()));
    return *message;
  }
}

void AgentDriver::unexpected(const agent::AgentMessage& message) {
  std::string text = "another message was expected than number " + std::to_string(message.index());
  if (const auto* failed = std::get_if<agent::Failed>(&message)) text += ": " + failed->what;
  broken(text);
}

agent::Prepare AgentDriver::job(std::vector<std::string> argv, std::uint32_t ranks) {
  agent::Prepare prepare;
  prepare.job_id = "test";
  prepare.host = "here";
  prepare.argv = std::move(argv);
  for (std::uint32_t i = 0; i < ranks; ++i) prepare.ranks.push_back({i, {{"RANK", std::to_string(i)}}});
  return prepare;
}

void AgentDriver::start(const agent::Prepare& prepare) {
  send(prepare);
  expect<agent::Ready>();
  send(agent::Go{});
  for (std::size_t started = 0; started < prepare.ranks.size();) {
    step();
    started = 0;
    for (const auto& [rank, record] : ranks) started += record.pid != 0;
  }
}

void AgentDriver::send_ack() {
  send(agent::Ack{acked = output_bytes, outputs, 0});
}

bool AgentDriver::step() {
  return take(next());
}

bool AgentDriver::take(agent::AgentMessage message) {
  if (agent::counted(message) == agent::Counted::output) ++outputs;
  if (auto* output = std::get_if<agent::Output>(&message)) {
    RankRecord& record = ranks[output->rank];
    (output->stream == agent::Stream::out ? record.out : record.err) += as_text(output->data);
    output_bytes += output->data.size();
    largest_ahead = std::max(largest_ahead, output_bytes - acked);
    if (auto_ack) send_ack();
  } else if (const auto* end = std::get_if<agent::OutputEnd>(&message)) {
    RankRecord& record = ranks[end->rank];
    bool& ended = end->stream == agent::Stream::out ? record.out_ended : record.err_ended;
    if (ended) broken("a second OutputEnd");
    ended = true;
  } else if (const auto* exit = std::get_if<agent::Exited>(&message)) {
    RankRecord& record = ranks[exit->rank];
    if (record.exited) broken("a second Exited");
    record.exited = true;
    record.exit = *exit;
  } else if (const auto* started = std::get_if<agent::Started>(&message)) {
    ranks[started->rank].pid = started->pid;
  } else if (const auto* failed = std::get_if<agent::Failed>(&message)) {
    failures.push_back(*failed);
  } else if (const auto* line = std::get_if<agent::Noise>(&message)) {
    noise.push_back(line->text);
  } else if (const auto* taken = std::get_if<agent::InputTaken>(&message)) {
    input_taken = taken->bytes;
  } else if (std::holds_alternative<agent::Paused>(message)) {
    ++pauses;
  } else if (std::holds_alternative<agent::Taken>(message)) {
    // this head keeps nothing
  } else if (std::holds_alternative<agent::Done>(message)) {
    done = true;
    return false;
  } else {
    unexpected(message);
  }
  return true;
}

void AgentDriver::run_to_done() {
  while (step()) {
  }
}

void AgentDriver::run_until_said(std::uint32_t rank, const std::string& text) {
  while (ranks[rank].out.find(text) == std::string::npos)
    if (!step()) broken("Done before rank " + std::to_string(rank) + " said " + text);
}

void AgentDriver::run_until_exited(std::uint32_t rank) {
  while (!ranks[rank].exited)
    if (!step()) broken("Done before rank " + std::to_string(rank) + " exited");
}

void AgentDriver::run_until_input_taken(std::uint64_t bytes) {
  while (input_taken < bytes)
    if (!step()) broken("Done before the ranks had taken their input");
}

void AgentDriver::run_until_paused() {
  for (const int before = pauses; pauses == before;)
    if (!step()) broken("Done instead of Paused");
}

void AgentDriver::hang_up() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int AgentDriver::wait_for_end() {
  while (fd_ >= 0 && read_more()) {
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) broken("waitpid failed");
  pid = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace llmlaunch::test
