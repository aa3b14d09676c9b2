// The RemoteShell of a host that is this machine: forks the agent on a socket pair. The agent's bytes, its marker line
// and its end are the same as through ssh, so that one code path serves both. make_local_shell() is in remote.hpp.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "launcher/agent_greeting.hpp"
#include "launcher/descriptor_limit.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/base/child_signals.hpp"

namespace llmlaunch::launcher {
namespace {

using LocalSocket = asio::local::stream_protocol::socket;

// The agent's process, shared with who waits for its end.
struct Process {
  pid_t pid = -1;  // -1: none yet, or its status was taken and the number may be another's
  std::function<void(std::string_view)> noise;
};

struct Child {
  pid_t pid = -1;
  int channel = -1;
  int errors = -1;
};

// To the parent: 0 when only the exec is left to do, then the errno of an exec that failed.
void report_step(int report, int error) {
  [[maybe_unused]] const ssize_t written = ::write(report, &error, sizeof(error));
}

// What happens between vfork and exec, in the parent's memory: system calls and nothing else. All signals are blocked
// until none has a handler any more: that would run in the head's memory, and tell it twice.
[[noreturn]] void become_agent(const char* path, int channel, int errors, int report) {
  // A group of its own: Ctrl-C at the terminal is for the head, which decides what the ranks get to know of it.
  ::setpgid(0, 0);
  ::dup2(channel, STDIN_FILENO);
  ::dup2(channel, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  DescriptorLimit::restore_in_child();
  reset_signals(IgnoredSignals::kept);
  report_step(report, 0);
  char* const argv[] = {const_cast<char*>(path), nullptr};
  ::execv(path, argv);
  report_step(report, errno);
  ::_exit(127);
}

// What the child reported until its exec, or its end, closed the pipe: nothing when it is the agent now.
std::optional<std::string> failure_of(int report) {
  int steps[2] = {0, 0};
  std::size_t size = 0;
  while (size < sizeof(steps)) {
    const ssize_t got = ::read(report, reinterpret_cast<char*>(steps) + size, sizeof(steps) - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size < sizeof(int)) return "its process ended before it could be executed";
  if (size < sizeof(steps)) return std::nullopt;
  return std::error_code(steps[1], std::generic_category()).message();
}

void close_all(std::initializer_list<int> descriptors) {
  for (const int fd : descriptors)
    if (fd >= 0) ::close(fd);
}

Result<Child> fork_agent(const std::string& path) {
  int channel[2] = {-1, -1}, errors[2] = {-1, -1}, report[2] = {-1, -1};
  const auto fail = [&](const char* call) {
    const Error error = system_error(errno, call);
    close_all({channel[0], channel[1], errors[0], errors[1], report[0], report[1]});
    return error;
  };
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0) return fail("socketpair");
  if (::pipe2(errors, O_CLOEXEC) != 0 || ::pipe2(report, O_CLOEXEC) != 0) return fail("pipe");
  sigset_t all, mask;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask);
  // Not fork, which copies the head's page tables, once for each of a thousand simulated hosts.
  const pid_t pid = ::vfork();
  if (pid == 0) become_agent(path.c_str(), channel[1], errors[1], report[1]);
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (pid < 0) return fail("vfork");
  close_all({channel[1], errors[1], report[1]});
  const std::optional<std::string> failure = failure_of(report[0]);
  ::close(report[0]);
  if (!failure) return Child{pid, channel[0], errors[0]};
  close_all({channel[0], errors[0]});
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return make_error(Errc::no_program, "the agent '" + path + "' cannot be started: " + *failure, {},
                    "llmlaunch-agent is installed beside llmlaunch; build or install both");
}

// Reads the agent's stderr to its end and takes its status: the pipe ends when the agent does, and no earlier, as the
// ranks do not get it. So no SIGCHLD is needed, and no zombie stays. Owns all that it uses.
asio::awaitable<void> follow_child(asio::posix::stream_descriptor errors, std::shared_ptr<Process> process) {
  LineCutter lines;
  const auto show = [&process](std::string_view line) {
    if (process->noise) process->noise(line);
  };
  std::string piece(4096, '\0');
  while (true) {
    const auto [error, size] = co_await errors.async_read_some(asio::buffer(piece), await_tuple);
    if (error) break;
    lines.feed(std::string_view(piece).substr(0, size), show);
  }
  lines.flush(show);
  while (::waitpid(process->pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  process->pid = -1;
}

class LocalShell final : public RemoteShell {
 public:
  LocalShell(asio::any_io_executor executor, const HostPlan& host, std::shared_ptr<const AgentBinary> agent,
             std::chrono::milliseconds start_limit)
      : executor_(std::move(executor)),
        host_(host.name),
        agent_(std::move(agent)),
        start_limit_(start_limit),
        channel_(executor_) {}
  ~LocalShell() override {
    close();
    process_->noise = nullptr;  // the agent may outlive us, and whom the sink belongs to
  }

  asio::awaitable<Result<void>> open() override;
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;
  asio::awaitable<Result<void>> write(ByteView bytes) override;
  void close() override;
  std::string head_address() const override { return "127.0.0.1"; }
  std::string host_address() const override { return "127.0.0.1"; }
  OpenStep step() const override { return step_; }

 private:
  void enter(OpenStep step) {
    step_ = step;
    note_step(step);
  }
  Result<void> start();
  Result<bool> take_greeting(std::string_view bytes);
  asio::awaitable<Result<void>> await_marker();
  void kill();
  Error ended() const;
  Error too_slow() const;
  std::string where() const { return "host " + host_; }
  Error canceled() const { return make_error(Errc::canceled, "the channel to the agent was closed", where()); }

  asio::any_io_executor executor_;
  std::string host_;
  std::shared_ptr<const AgentBinary> agent_;
  std::chrono::milliseconds start_limit_;
  LocalSocket channel_;
  AgentGreeting greeting_;
  std::string early_;  // the start of the frames, read with the marker
  std::shared_ptr<Process> process_ = std::make_shared<Process>();
  OpenStep step_ = OpenStep::waiting;
  bool closed_ = false;
  bool nobody_reads_ = false;  // a write has failed
};

Result<void> LocalShell::start() {
  Result<Child> child = fork_agent(agent_->path);
  if (!child) {
    Error error = child.error();
    error.where = where();
    return error;
  }
  *process_ = {child->pid, noise_};
  boost::system::error_code code;
  channel_.assign(asio::local::stream_protocol(), child->channel, code);
  if (code) return from_asio(code, "socket of the agent", where());
  asio::posix::stream_descriptor errors(executor_, child->errors);
  spawn_or_die(executor_, "stderr of the agent on " + host_, follow_child(std::move(errors), process_));
  return ok;
}

// Shows what comes before the marker. True: the marker was there, and `early_` is the start of the frames.
Result<bool> LocalShell::take_greeting(std::string_view bytes) {
  greeting_.feed(bytes);
  while (true) {
    Result<std::optional<GreetingEvent>> event = greeting_.next();
    if (!event) {
      Error error = event.error();
      error.what = "'" + agent_->path + "': " + error.what;
      error.where = where();
      return error;
    }
    if (!*event) return false;
    if (std::holds_alternative<AgentMarker>(**event)) break;
    // No bootstrap runs here: nothing asks for a push.
    if (const auto* line = std::get_if<NoiseLine>(&**event); line && noise_) noise_(line->text);
  }
  early_ = greeting_.take_rest();
  return true;
}

Error LocalShell::ended() const {
  return make_error(Errc::closed, "the agent '" + agent_->path + "' ended before it was ready", where(),
                    "run it with --version to see whether it works here");
}

Error LocalShell::too_slow() const {
  return make_error(
      Errc::timed_out,
      fmt::format("the agent '{}' was not ready within {} s", agent_->path,
                  std::chrono::duration<double>(start_limit_).count()),
      where(),
      "run it with --version to see whether it works here; a slow machine may need more: llmlaunch.timeouts.start");
}

// With what it may have started: become_agent() made it the leader of a group.
void LocalShell::kill() {
  if (process_->pid > 0) ::kill(-process_->pid, SIGKILL);
}

asio::awaitable<Result<void>> LocalShell::open() {
  enter(OpenStep::starting);
  Result<void> started = closed_ ? Result<void>(canceled()) : start();
  if (!started) co_return started;
  const Deadline deadline(executor_, start_limit_, [this] {
    kill();
    close();
  });
  const Result<void> opened = co_await await_marker();
  if (deadline.expired()) co_return too_slow();
  if (opened) enter(OpenStep::open);
  co_return opened;
}

asio::awaitable<Result<void>> LocalShell::await_marker() {
  std::string piece(4096, '\0');
  while (true) {
    const auto [error, size] = co_await channel_.async_read_some(asio::buffer(piece), await_tuple);
    if (closed_) co_return canceled();
    if (error == asio::error::eof || error == asio::error::connection_reset) co_return ended();
    if (error) co_return from_asio(error, "read from the agent", where());
    const Result<bool> found = take_greeting(std::string_view(piece).substr(0, size));
    if (!found) {
      close();
      co_return found.error();
    }
    if (*found) co_return ok;
  }
}

asio::awaitable<Result<std::size_t>> LocalShell::read_some(std::span<std::byte> buffer) {
  if (closed_) co_return canceled();
  if (!early_.empty()) {
    const std::size_t size = std::min(buffer.size(), early_.size());
    std::copy_n(as_bytes(early_).begin(), size, buffer.begin());
    early_.erase(0, size);
    co_return size;
  }
  const auto [error, size] = co_await channel_.async_read_some(asio::buffer(buffer.data(), buffer.size()), await_tuple);
  if (closed_) co_return canceled();
  // An agent that was killed with our bytes unread resets the channel: to the reader that is an end like any other.
  if (error == asio::error::eof || error == asio::error::connection_reset) co_return std::size_t{0};
  if (error) co_return from_asio(error, "read from the agent", where());
  co_return size;
}

asio::awaitable<Result<void>> LocalShell::write(ByteView bytes) {
  if (closed_) co_return canceled();
  if (nobody_reads_) co_return make_error(Errc::closed, "the agent has ended", where());
  const auto [error, size] =
      co_await asio::async_write(channel_, asio::buffer(bytes.data(), bytes.size()), await_tuple);
  if (closed_) co_return canceled();
  // Asio takes a failed write for a full buffer: the next one would wait for an event that never comes.
  nobody_reads_ = error.failed();
  if (error == asio::error::broken_pipe || error == asio::error::connection_reset)
    co_return make_error(Errc::closed, "the agent has ended", where());
  if (error) co_return from_asio(error, "write to the agent", where());
  co_return ok;
}

void LocalShell::close() {
  if (std::exchange(closed_, true)) return;
  boost::system::error_code ignored;  // of a socket that is given up
  channel_.close(ignored);
}

}  // namespace

std::shared_ptr<RemoteShell> make_local_shell(asio::any_io_executor executor, const HostPlan& host,
                                              std::shared_ptr<const AgentBinary> agent,
                                              std::chrono::milliseconds start_limit) {
  return std::make_shared<LocalShell>(std::move(executor), host, std::move(agent), start_limit);
}

}  // namespace llmlaunch::launcher
